"""Generation: run a plan on a model, so that each picture can be made again."""
