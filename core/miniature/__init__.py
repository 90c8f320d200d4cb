"""The miniature: tiny but real models, and the drawn world they are trained on."""
