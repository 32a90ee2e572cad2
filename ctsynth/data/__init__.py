"""NIfTI volumes, their slices, and the store that training reads."""
