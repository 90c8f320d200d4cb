"""What the miniature's models are worth on renders they have not seen."""
