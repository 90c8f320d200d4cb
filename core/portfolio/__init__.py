"""Several subjects in one project: a dataset of each, a combined one, and how they differ."""
