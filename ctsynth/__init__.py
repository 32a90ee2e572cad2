"""Semantic image synthesis for abdominal CT: from a label map to a CT volume."""

__version__ = "0.1.0"
