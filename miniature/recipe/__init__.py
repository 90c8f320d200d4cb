"""How the miniature's weights are made: data, optimiser, and one module for each model."""
