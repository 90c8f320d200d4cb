"""What a LoRA is: adapters on a model, its file, the names of its layers, its header."""
