"""The peers that `evaluation.py` times, written as their users would, and the floors that no way can pass."""

import statistics
from dataclasses import dataclass

import numba
import numpy as np
import torch

from xmodal.metrics.kernels_cpu import popcount
from xmodal.metrics.packing import pack_bits

SIZES = {"MIRFLICKR": (2000, 18_015, 24), "COCO": (5000, 117_218, 80), "NUS-WIDE": (2100, 193_734, 21)}


@dataclass
class Problem:
    """Codes (as booleans) or embeddings of one size, one direction, with labels that the codes follow."""

    query: torch.Tensor
    database: torch.Tensor
    query_label: torch.Tensor
    database_label: torch.Tensor

    @classmethod
    def make(cls, size: str, bits: int, real: bool = False):
        """Outputs that follow the labels, with noise."""
        queries, items, labels = SIZES[size]
        generator = torch.Generator().manual_seed(bits)
        centre = torch.randn(labels, bits, generator=generator)
        sides = []
        for rows in (queries, items):
            label = torch.rand(rows, labels, generator=generator) < 2.5 / labels
            output = label.float() @ centre + 1.5 * torch.randn(rows, bits, generator=generator)
            sides.append((torch.nn.functional.normalize(output) if real else output >= 0, label))
        return cls(sides[0][0], sides[1][0], sides[0][1], sides[1][1])

    def first(self, queries: int):
        """The same with fewer queries."""
        return Problem(self.query[:queries], self.database, self.query_label[:queries], self.database_label)

    def to(self, device: str):
        """The same on another device."""
        return Problem(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


# --- peers ------------------------------------------------------------------------------------------------------------


def literature_loop(problem: Problem) -> float:
    """The loop of the hashing literature: one query at a time, sort by distance, average the precisions at the hits."""
    if problem.query.dtype == torch.bool:
        query, database = (2.0 * side.float() - 1 for side in (problem.query, problem.database))
    else:
        query, database = problem.query, problem.database
    labels = problem.database_label.float()
    total = 0.0
    for code, label in zip(query, problem.query_label.float(), strict=True):
        relevant = ((label @ labels.T) > 0).float()
        distance = 0.5 * (query.shape[1] - code @ database.T)
        ranked = relevant[distance.argsort()]
        hits = int(ranked.sum())
        if hits:
            place = (ranked == 1).nonzero().squeeze(1).float() + 1
            total += float((torch.arange(1, hits + 1) / place).mean())
    return total / len(query)


def scores(problem: Problem) -> torch.Tensor:
    """Positive scores, as torchmetrics needs them."""
    if problem.query.dtype == torch.bool:
        near = problem.query.shape[1] + (2.0 * problem.query.float() - 1) @ (2.0 * problem.database.float() - 1).T
        return near / 2 + 1
    return problem.query @ problem.database.T + 2


def torchmetrics_class(problem: Problem) -> float:
    from torchmetrics.retrieval import RetrievalMAP

    metric = RetrievalMAP()
    relevant = (problem.query_label.float() @ problem.database_label.float().T) > 0
    index = torch.arange(len(relevant))[:, None].expand_as(relevant)
    metric.update(scores(problem).flatten(), relevant.flatten(), indexes=index.flatten())
    return float(metric.compute())


def torchmetrics_function(problem: Problem) -> float:
    from torchmetrics.functional.retrieval import retrieval_average_precision

    total = 0.0
    for row in range(len(problem.query)):
        one = Problem(problem.query[row : row + 1], problem.database, problem.query_label[row], problem.database_label)
        relevant = (one.query_label.float() @ one.database_label.float().T) > 0
        total += float(retrieval_average_precision(scores(one)[0], relevant))
    return total / len(problem.query)


def pytorch_metric_learning(problem: Problem) -> float:
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    calculator = AccuracyCalculator(
        include=("mean_average_precision",),
        k=len(problem.database),
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    )
    query, database = (2.0 * side.float() - 1 for side in (problem.query, problem.database))
    classes = [side.float().argmax(1) for side in (problem.query_label, problem.database_label)]
    accuracy = calculator.get_accuracy(query, classes[0], database, classes[1])
    return float(accuracy["mean_average_precision"])


def pytrec_eval(problem: Problem) -> float:
    import pytrec_eval as trec

    near = scores(problem)
    relevant = (problem.query_label.float() @ problem.database_label.float().T) > 0
    names = [str(item) for item in range(len(problem.database))]
    truth = {str(q): dict(zip(names, row, strict=True)) for q, row in enumerate(relevant.int().tolist())}
    run = {str(q): dict(zip(names, row, strict=True)) for q, row in enumerate(near.tolist())}
    result = trec.RelevanceEvaluator(truth, {"map"}).evaluate(run)
    return statistics.fmean(query["map"] for query in result.values())


# --- what the machine can do at best ----------------------------------------------------------------------------------


@numba.njit(cache=True)
def _distances_only(query, database, near):
    total = 0
    for q in range(len(query)):
        for start in range(0, database.shape[1], len(near)):
            m = min(len(near), database.shape[1] - start)
            near[:] = 0
            b = 0
            while b + 4 <= len(database):
                q0, q1, q2, q3 = query[q, b], query[q, b + 1], query[q, b + 2], query[q, b + 3]
                d0, d1 = database[b, start : start + m], database[b + 1, start : start + m]
                d2, d3 = database[b + 2, start : start + m], database[b + 3, start : start + m]
                for j in range(m):
                    near[j] += popcount(q0 ^ d0[j]) + popcount(q1 ^ d1[j])
                    near[j] += popcount(q2 ^ d2[j]) + popcount(q3 ^ d3[j])
                b += 4
            while b < len(database):
                q0, d0 = query[q, b], database[b, start : start + m]
                for j in range(m):
                    near[j] += popcount(q0 ^ d0[j])
                b += 1
            total += near[0]
    return total


@numba.njit(cache=True)
def _increments_only(key, pairs, bins):
    for _ in range(pairs // len(key)):
        for j in range(0, len(key), 4):
            bins[0, key[j]] += 1
            bins[1, key[j + 1]] += 1
            bins[2, key[j + 2]] += 1
            bins[3, key[j + 3]] += 1


def hamming_floor(problem: Problem) -> float:
    """The distances of all pairs (xor and popcount), and one increment of a histogram in the first cache a pair."""
    octets = problem.query.shape[1] // 8
    query, database = (pack_bits(side).view(torch.uint8)[:, :octets] for side in (problem.query, problem.database))
    _distances_only(query.contiguous().numpy(), database.T.contiguous().numpy(), np.empty(4096, np.uint8))
    near = (problem.query[:1] ^ problem.database[:4096]).sum(1).numpy()
    key = (2 * near + (problem.database_label[:4096, 0]).numpy()).astype(np.uint16)
    _increments_only(key, len(query) * len(database), np.zeros((4, 2 * problem.query.shape[1] + 2), np.int32))
    return float("nan")


def matmul_floor(problem: Problem) -> float:
    """All scores, block by block, and nothing else."""
    for block in problem.query.split(32):
        for tile in problem.database.split(4096):
            block @ tile.T
    return float("nan")


def half_floor(problem: Problem) -> float:
    """Codes and labels through one product, tile by tile, and nothing else."""
    query = torch.cat([problem.query, problem.query_label], 1).half()
    for tile in torch.cat([problem.database, problem.database_label], 1).half().split(16_384):
        tile @ query.T
    return float("nan")
