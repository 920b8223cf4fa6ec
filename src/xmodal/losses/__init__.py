"""Losses: pure functions of tensors, no logging, no distributed calls."""

from xmodal.losses.adversarial import discrimination, fooling
from xmodal.losses.centres import centre_likelihood, label_target
from xmodal.losses.classification import Prediction, fused_label_prediction, label_prediction
from xmodal.losses.code import (
    bit_balance,
    graph_codes,
    graph_factor,
    nearest_targets,
    normalised_laplacian,
    quantization,
    sign,
)
from xmodal.losses.contrastive import cosine_triplet, graded_triplet, info_nce, multilabel_paco, ndcg_gain
from xmodal.losses.correlation import total_correlation
from xmodal.losses.metric import hard_pairs, hardest_other, mean_distance, ranking_hinge, repulsion, squared_triplet
from xmodal.losses.pairwise import Similarity, distance_margin, joint_similarity, label_similarity, pairwise_likelihood
from xmodal.losses.polynomial import Negatives, polynomial, polynomial_pull, polynomial_push
from xmodal.losses.proxy import code_margin, irrelevant_pairs, multilabel_proxy, softmax_proxy
from xmodal.losses.sets import set_discrepancy, set_diversity, smooth_chamfer

__all__ = [
    "Negatives",
    "Prediction",
    "Similarity",
    "bit_balance",
    "centre_likelihood",
    "code_margin",
    "cosine_triplet",
    "discrimination",
    "distance_margin",
    "fooling",
    "fused_label_prediction",
    "graded_triplet",
    "graph_codes",
    "graph_factor",
    "hard_pairs",
    "hardest_other",
    "info_nce",
    "irrelevant_pairs",
    "joint_similarity",
    "label_prediction",
    "label_similarity",
    "label_target",
    "mean_distance",
    "multilabel_paco",
    "multilabel_proxy",
    "ndcg_gain",
    "nearest_targets",
    "normalised_laplacian",
    "pairwise_likelihood",
    "polynomial",
    "polynomial_pull",
    "polynomial_push",
    "quantization",
    "ranking_hinge",
    "repulsion",
    "set_discrepancy",
    "set_diversity",
    "sign",
    "smooth_chamfer",
    "softmax_proxy",
    "squared_triplet",
    "total_correlation",
]
