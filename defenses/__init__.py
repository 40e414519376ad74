"""Defenses: plain functions from Classifier to Classifier. A list of defenses is their composition.

Each returns a new Classifier and leaves the given one as it was. What part of its gradient is true and what part is a
declared stand-in is said in its docstring and, at run time, in `Classifier.surrogates`.
"""

from .bit_depth import bit_depth
from .jpeg import jpeg
from .median import median
from .onnx_preprocess import onnx_preprocess

__all__ = ["bit_depth", "jpeg", "median", "onnx_preprocess"]
