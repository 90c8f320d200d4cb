"""Images in waves: the next goes where the selection is short, until another would not pay."""
