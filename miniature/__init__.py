"""The embedded models' own project: the drawn world that they are trained on, recipe, measure."""
