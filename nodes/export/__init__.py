"""Stage 3: datasets, written and read."""
