"""Drawing routines of the miniature's portraits, from the canvas up."""
