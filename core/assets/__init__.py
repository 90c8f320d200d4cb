"""Images of a character for a game: cut out, packed into an atlas, archived."""
