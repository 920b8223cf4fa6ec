"""Building blocks that more than one method uses."""

from xmodal.layers.adversary import discriminator, gather_with_gradient, reversal_strength, reverse_gradient
from xmodal.layers.attention import (
    AttentionBlock,
    AttentionPooling,
    FeatureGate,
    GroupAttention,
    TokenAttention,
    masked_mean,
)
from xmodal.layers.correlation import canonical_projections
from xmodal.layers.decoder import decoder
from xmodal.layers.trunk import MultiScaleText, perceptron

__all__ = [
    "AttentionBlock",
    "AttentionPooling",
    "FeatureGate",
    "GroupAttention",
    "MultiScaleText",
    "TokenAttention",
    "canonical_projections",
    "decoder",
    "discriminator",
    "gather_with_gradient",
    "masked_mean",
    "perceptron",
    "reversal_strength",
    "reverse_gradient",
]
