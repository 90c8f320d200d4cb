"""The models that can be trained: one protocol, and the pipelines of diffusers that keep it."""
