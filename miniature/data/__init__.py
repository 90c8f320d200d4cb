"""Drawn portraits as the data of a training."""
