"""What every node shares with the person at the canvas: progress, images, paths, widgets."""
