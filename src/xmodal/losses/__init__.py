"""Losses: pure functions of tensors, no logging, no distributed calls."""

from xmodal.losses.adversarial import discrimination, fooling
from xmodal.losses.classification import Prediction, fused_label_prediction, label_prediction
from xmodal.losses.code import bit_balance, graph_codes, graph_factor, normalised_laplacian, quantization, sign
from xmodal.losses.correlation import total_correlation
from xmodal.losses.metric import hardest_other, mean_distance, ranking_hinge, repulsion, squared_triplet
from xmodal.losses.pairwise import Similarity, label_similarity, pairwise_likelihood
from xmodal.losses.polynomial import Negatives, polynomial, polynomial_pull, polynomial_push

__all__ = [
    "Negatives",
    "Prediction",
    "Similarity",
    "bit_balance",
    "discrimination",
    "fooling",
    "fused_label_prediction",
    "graph_codes",
    "graph_factor",
    "hardest_other",
    "label_prediction",
    "label_similarity",
    "mean_distance",
    "normalised_laplacian",
    "pairwise_likelihood",
    "polynomial",
    "polynomial_pull",
    "polynomial_push",
    "quantization",
    "ranking_hinge",
    "repulsion",
    "sign",
    "squared_triplet",
    "total_correlation",
]
