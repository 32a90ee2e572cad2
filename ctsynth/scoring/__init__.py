"""Scores: synthetic volumes measured against the real ones."""
