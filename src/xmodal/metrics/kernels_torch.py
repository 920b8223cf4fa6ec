"""Ranking in plain torch, on any device; used where the states lie on a GPU, and the reference of the CPU kernels."""

import numpy as np
import torch
from torch import Tensor

from xmodal.metrics.ranking import Ranking

_BINS = 1 << 23  # bins of one bincount call
_HALF_EXACT = 2048  # integers up to here are exact in float16
_EXACT = 1 << 24  # and up to here in float32


def histogram(
    query: Tensor, database: Tensor, query_labels: Tensor, database_labels: Tensor, grades: int, pairs: int = 1 << 26
) -> Tensor:
    """Histogram over Hamming distance and shared labels: the result of one matrix product is the bin of each pair.

    distance + (bits + 1) * shared = sum_k q_k + sum_k d_k (1 - 2 q_k) + (bits + 1) sum_c y_c z_c, all small integers,
    so float32 (also TF32), and float16 up to 2,048, are exact.

    Args:
        query: (Q, bits) boolean codes.
        database: (N, bits) boolean codes.
        query_labels: (Q, C) boolean labels, or (Q, L) int64 class numbers of L layers, which are compared one by one.
        database_labels: (N, C) or (N, L), the same of the database.
        grades: number of relevance grades; 2 asks only whether a label is shared.
        pairs: pairs of items to hold at once.

    Returns:
        (Q, grades, bits + 1) int32, the same on every device.
    """
    queries, bits = query.shape
    classes, items = None, None
    if query_labels.dtype != torch.bool:
        classes, items = query_labels, database_labels
        query_labels, database_labels = query[:, :0], database[:, :0]
        most = 1 + classes.shape[1]
    else:
        most = 1 + int(torch.minimum(_most(query_labels), _most(database_labels)))
    bins = (bits + 1) * most
    half = query.is_cuda and bits + bins <= _HALF_EXACT
    dtype = torch.float16 if half else torch.float32 if bits + bins < _EXACT else torch.float64
    one = torch.ones(len(database), 1, device=query.device, dtype=dtype)
    right = torch.cat([database.to(dtype), database_labels.to(dtype), one], 1)
    codes = query.to(dtype)
    left = torch.cat([1 - 2 * codes, query_labels.to(dtype) * (bits + 1), codes.sum(1, keepdim=True)], 1)
    out = torch.zeros(queries, most, bits + 1, dtype=torch.int64, device=query.device)
    block = max(1, min(_BINS // bins, queries))
    tile = max(1, pairs // block)
    for row in range(0, queries, block):
        asked, counts = left[row : row + block].T, out[row : row + block]
        offset = torch.arange(asked.shape[1], device=query.device, dtype=torch.int32) * bins
        for start in range(0, len(right), tile):
            key = (right[start : start + tile] @ asked).int().add_(offset)
            if classes is not None and items is not None:
                for own, other in zip(classes[row : row + block].T, items[start : start + tile].T, strict=True):
                    key += (other[:, None] == own).int() * (bits + 1)
            counts += torch.bincount(key.view(-1), minlength=counts.numel()).view_as(counts)
    if grades == 2:
        out = torch.stack([out[:, 0], out[:, 1:].sum(1)], 1)
    padded = torch.zeros(queries, grades, bits + 1, dtype=torch.int32, device=query.device)
    padded[:, : out.shape[1]] = out
    return padded


def _most(labels: Tensor) -> Tensor:
    return labels.sum(1).max() if len(labels) else torch.zeros((), dtype=torch.int64, device=labels.device)


def shared_labels(query: Tensor, database: Tensor, grades: int) -> Tensor:
    """Relevance grade of each pair: the number of labels, or classes, shared, (Q, C) x (N, C) -> (Q, N) int64."""
    if query.dtype == torch.bool:
        shared = (query.float() @ database.float().T).long()
    else:
        every = [own[:, None] == other for own, other in zip(query.T, database.T, strict=True)]
        shared = torch.stack(every).sum(0)
    return shared.clamp(max=1) if grades == 2 else shared


def rank_rows(near: Tensor, grade: Tensor, grades: int, stable: bool) -> Ranking:
    """Rank each row of `near` (Q, N), smallest first; with `stable` the order of the columns breaks ties."""
    queries, size = near.shape
    level, order = near.sort(dim=1, stable=True)
    ordered = grade.gather(1, order)
    starts = torch.ones_like(ordered, dtype=torch.bool)
    if not stable:
        starts[:, 1:] = level[:, 1:] != level[:, :-1]
    group = starts.view(-1).cumsum(0) - 1
    place = starts.view(-1).nonzero().squeeze(1)
    items = torch.diff(place, append=place.new_tensor([queries * size]))
    relevant = torch.zeros_like(place).scatter_add_(0, group, (ordered > 0).long().view(-1))
    gained = torch.zeros(len(place), dtype=torch.float64, device=near.device)
    gained.scatter_add_(0, group, (2.0 ** ordered.view(-1).double()) - 1)  # integers: exact in any order
    kept = relevant > 0
    rows = torch.bincount(place[kept] // max(size, 1), minlength=queries)
    row = torch.arange(queries, device=near.device)[:, None] * grades
    counts = torch.bincount((grade + row).view(-1), minlength=queries * grades).view(queries, grades)
    return Ranking(
        offsets=np.concatenate([[0], rows.cumsum(0).cpu().numpy()]).astype(np.int64),
        closer=(place % max(size, 1))[kept].cpu().numpy(),
        items=items[kept].cpu().numpy(),
        relevant=relevant[kept].cpu().numpy(),
        gain=gained[kept].cpu().numpy(),
        grades=counts.cpu().numpy(),
        database=size,
    )
