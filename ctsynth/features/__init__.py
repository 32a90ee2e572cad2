"""Features of slices, and distances between sets of them."""
