"""Models for others: weights, settings and a model card in a folder."""
