"""One file, one network that finds organs in slices."""
