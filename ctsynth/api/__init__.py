"""For Python: a model that draws arrays, and the commands as functions; ``ctsynth`` has their names.

What an argument or a file makes impossible is a ``ValueError`` that says what was found and what to give instead;
work that fails for another reason raises ``ctsynth.errors.RunError``.
"""
