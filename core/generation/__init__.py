"""Generation: run a plan on a model, so that each image can be made again."""
