"""What the scores measure, as functions on arrays: no files, no subjects, no torch."""
