"""The second stage of a two-stage retrieval: a score that needs both sides re-orders the first hits of a ranking."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from xmodal.batch import Batch
from xmodal.errors import UserError
from xmodal.metrics import CosineRetrieval
from xmodal.relevance import Relevance

PAIRS = 2048  # image-text pairs scored in one forward pass


class Encoded(NamedTuple):
    """One side of N items.

    Attributes:
        embedding: (N, d), of length 1; ranks the first stage.
        tokens: (N, T, d).
        mask: (N, T) bool.
    """

    embedding: Tensor
    tokens: Tensor
    mask: Tensor

    def at(self, rows: Tensor) -> "Encoded":
        """The items at these positions."""
        return Encoded(*(part[rows] for part in self))


Score = Callable[[Encoded, Encoded], Tensor]


def reranked_metrics(
    score: Score,
    query: tuple[Batch, Mapping[str, Encoded]],
    database: tuple[Batch, Mapping[str, Encoded]],
    top: int,
    rank: int = 0,
    world: int = 1,
) -> tuple[dict[str, float], dict[str, str]]:
    """Every retrieval metric of the re-ranked lists, and what each means; the keys begin with `reranked_`.

    The whole score matrix is held, Q x N, and N x N beside it, see `check_size`.

    Args:
        score: of P image-text pairs, from the encoded images and texts: (P,) in [-1, 1].
        query: queries, and both of their sides encoded, by `image` and `text`.
        database: the same of the database.
        top: so many first hits are re-ranked; 0 for all.
        rank: this process; it scores every `world`-th query.
        world: number of processes.
    """
    (queries, asked), (items, found) = query, database
    device = items["label"].device
    rows = torch.arange(rank, len(queries["label"]), world, device=device)
    pictures = Relevance.of(items).distinct("image")
    i2t = _scores(score, asked["image"].at(rows), found["text"], top)
    t2i = _scores(lambda text, image: score(image, text), asked["text"].at(rows), found["image"], top, pictures)
    metric = CosineRetrieval(similarity="inner", within=False).to(device)
    eye = torch.eye(len(items["label"]), device=device)  # the inner product with it is the score itself
    metric.update("query", i2t, t2i, **Relevance.of(queries).at(rows).columns())
    metric.update("database", eye, eye, **Relevance.of(items).columns())
    values = {f"reranked_{name}": float(value) for name, value in metric.compute().items()}
    first = f"first {top} hits" if top else "whole list"
    return values, {f"reranked_{name}": f"{first} re-ranked: {words}" for name, words in metric.conventions.items()}


def check_size(queries: int, items: int, memory: int) -> None:
    """Refuse what does not fit before anything is trained: `reranked_metrics` was seen to take 24 N (Q + N) bytes.

    Args:
        queries: Q.
        items: N, of the database.
        memory: bytes of the device that evaluates.

    Raises:
        UserError: the matrices of the second stage do not fit.
    """
    needed = 24 * items * (queries + items)
    if needed > memory:
        raise UserError(
            f"re-ranking {queries:,} queries against {items:,} items takes {needed / 2**30:,.0f} GiB and the device "
            f"has {memory / 2**30:,.0f}: choose a protocol with a smaller database, or set model.cross=none."
        )


def _scores(score: Score, query: Encoded, database: Encoded, top: int, items: Tensor | None = None) -> Tensor:
    """(Q, N): the cosine, and above every cosine the score of the first hits, among some items only or among all."""
    cosine = query.embedding @ database.embedding.T
    searched = cosine if items is None else cosine[:, items]
    first = searched.topk(min(top or len(searched.T), len(searched.T)), 1).indices
    first = first if items is None else items[first]
    rows = torch.arange(len(cosine), device=cosine.device)[:, None].expand_as(first).flatten()
    columns = first.flatten()
    for chosen in torch.split(torch.arange(len(rows), device=cosine.device), PAIRS):
        q, d = rows[chosen], columns[chosen]
        cosine[q, d] = 3 + score(query.at(q), database.at(d))
    return cosine
