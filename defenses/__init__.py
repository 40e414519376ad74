"""Defenses: plain functions from Classifier to Classifier. A list of defenses is their composition.

Each returns a new Classifier and leaves the given one as it was. What part of its gradient is true and what part is a
declared stand-in is said in its docstring and, at run time, in `Classifier.surrogates`.
"""

from .detectors.density import density
from .detectors.energy import energy
from .detectors.feature_squeezing import feature_squeezing
from .detectors.mahalanobis import mahalanobis
from .detectors.max_softmax import max_softmax
from .detectors.onnx_detector import onnx_detector
from .ensemble import ensemble
from .images.bit_depth import bit_depth
from .images.gaussian_blur import gaussian_blur
from .images.gaussian_noise import gaussian_noise
from .images.jpeg import jpeg
from .images.median import median
from .images.onnx_preprocess import onnx_preprocess
from .images.pca import pca
from .images.random_resize_pad import random_resize_pad
from .images.total_variation import total_variation
from .packaged import packaged
from .randomized_smoothing import randomized_smoothing

__all__ = [
    "bit_depth",
    "density",
    "energy",
    "ensemble",
    "feature_squeezing",
    "gaussian_blur",
    "gaussian_noise",
    "jpeg",
    "mahalanobis",
    "max_softmax",
    "median",
    "onnx_detector",
    "onnx_preprocess",
    "packaged",
    "pca",
    "random_resize_pad",
    "randomized_smoothing",
    "total_variation",
]
