"""Stage 5: what a LoRA is worth."""
