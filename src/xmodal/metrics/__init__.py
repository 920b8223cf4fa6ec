"""Retrieval metrics: exact, tie-aware, and the same on any number of processes.

`retrieval_metrics` is what the suite evaluates with. Below it, each definition is a function of a `Ranking`, and
`hamming_ranking` and `cosine_ranking` make rankings of tensors:

    >>> import torch
    >>> from xmodal.metrics import average_precision, hamming_ranking
    >>> query, database = torch.tensor([[1, 1, 1]]), torch.tensor([[1, 1, 1], [1, 1, -1], [-1, 1, 1], [-1, -1, 1]])
    >>> ranking = hamming_ranking(query, database, torch.tensor([[1]]), torch.tensor([[1], [1], [0], [1]]))
    >>> average_precision(ranking).round(4), average_precision(ranking, top=2, denominator="hits")
    (array([0.8611]), array([1.]))
"""

from xmodal.metrics.curves import Curve, curve_by_radius, curve_by_rank, interpolated_curve, precision_recall_within
from xmodal.metrics.definitions import average_precision, hit_at, hits_at, ndcg_at, precision_at, recall_at
from xmodal.metrics.ranking import Ranking, random_ranking, ranking_from_histogram
from xmodal.metrics.report import Cutoffs, describe
from xmodal.metrics.retrieval import CosineRetrieval, HammingRetrieval, retrieval_metrics
from xmodal.metrics.statistics import code_statistics
from xmodal.metrics.tensor_rankings import cosine_ranking, hamming_ranking
from xmodal.significance import bootstrap_interval, paired_test

__all__ = [
    "CosineRetrieval",
    "Curve",
    "Cutoffs",
    "HammingRetrieval",
    "Ranking",
    "average_precision",
    "bootstrap_interval",
    "code_statistics",
    "cosine_ranking",
    "curve_by_radius",
    "curve_by_rank",
    "describe",
    "hamming_ranking",
    "hit_at",
    "hits_at",
    "interpolated_curve",
    "ndcg_at",
    "paired_test",
    "precision_at",
    "precision_recall_within",
    "random_ranking",
    "ranking_from_histogram",
    "recall_at",
    "retrieval_metrics",
]
