"""Analysis: what the images show, how good they are, and which are alike."""
