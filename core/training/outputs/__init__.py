"""What a training writes: the LoRA file, its card, the plot, sample images, event files."""
