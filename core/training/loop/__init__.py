"""The training loop: objective, optimizers, schedules, validation, and going on after a kill."""
