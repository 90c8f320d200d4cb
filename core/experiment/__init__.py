"""Experiments: what curating a training set does for the LoRA that is trained on it."""
