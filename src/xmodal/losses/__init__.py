"""Losses: pure functions of tensors, no logging, no distributed calls."""

from xmodal.losses.classification import fused_label_prediction
from xmodal.losses.code import bit_balance, graph_codes, graph_factor, normalised_laplacian, quantization, sign
from xmodal.losses.contrastive import cosine_triplet, info_nce, multilabel_paco, ndcg_gain
from xmodal.losses.pairwise import Similarity, distance_margin, label_similarity, pairwise_likelihood
from xmodal.losses.proxy import code_margin, irrelevant_pairs, multilabel_proxy

__all__ = [
    "Similarity",
    "bit_balance",
    "code_margin",
    "cosine_triplet",
    "distance_margin",
    "fused_label_prediction",
    "graph_codes",
    "graph_factor",
    "info_nce",
    "irrelevant_pairs",
    "label_similarity",
    "multilabel_paco",
    "multilabel_proxy",
    "ndcg_gain",
    "normalised_laplacian",
    "pairwise_likelihood",
    "quantization",
    "sign",
]
