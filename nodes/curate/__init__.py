"""Stage 2: validate, score, group and select."""
