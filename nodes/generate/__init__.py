"""Stage 1: make the images of a plan."""
