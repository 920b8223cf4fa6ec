"""Building blocks that more than one method uses."""

from xmodal.layers.correlation import canonical_projections
from xmodal.layers.trunk import MultiScaleText, perceptron

__all__ = ["MultiScaleText", "canonical_projections", "perceptron"]
