"""Analysis: what the pictures show, how good they are, and which are alike."""
