"""Losses: pure functions of tensors, no logging, no distributed calls."""

from xmodal.losses.classification import fused_label_prediction
from xmodal.losses.code import bit_balance, graph_codes, graph_factor, normalised_laplacian, quantization, sign
from xmodal.losses.pairwise import Similarity, label_similarity, pairwise_likelihood

__all__ = [
    "Similarity",
    "bit_balance",
    "fused_label_prediction",
    "graph_codes",
    "graph_factor",
    "label_similarity",
    "normalised_laplacian",
    "pairwise_likelihood",
    "quantization",
    "sign",
]
