"""What adapts ComfyUI's objects to the protocols of core."""
