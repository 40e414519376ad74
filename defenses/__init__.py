"""Defenses: plain functions from Classifier to Classifier. A list of defenses is their composition.

Each returns a new Classifier and leaves the given one as it was. What part of its gradient is true and what part is a
declared stand-in is said in its docstring and, at run time, in `Classifier.surrogates`.
"""
