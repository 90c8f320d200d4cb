"""Where work is done: in this process, or in a pool of others."""
