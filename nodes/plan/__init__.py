"""Stage 1: what images there shall be."""
