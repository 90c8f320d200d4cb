"""Stage 4: a LoRA of a dataset."""
