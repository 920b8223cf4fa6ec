"""The torchmetrics classes: retrieval by codes and by embeddings, both directions over one state."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.distributed as dist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor
from torch.nn.functional import normalize
from torchmetrics import MetricCollection

from xmodal.metrics.base import CrossModalRetrieval
from xmodal.metrics.packing import code_bits, embedding_rows, pack_bits, unpack_bits
from xmodal.metrics.rankers import CodeRanker, Ranker, ScoreRanker
from xmodal.metrics.report import Cutoffs, Detail


class HammingRetrieval(CrossModalRetrieval):
    """Retrieval by Hamming distance between binary codes, in both directions.

    Outputs are signed, sign(0) = +1. Tied items count in expectation over their orders unless a key says otherwise.

    Args:
        detail: "map" computes mAP@all only; "full" everything in `xmodal.metrics.report`.
        cutoffs: where the rankings are cut.
        process_group: processes to merge over; None is the world.

    Examples:
        >>> import torch
        >>> metric = HammingRetrieval(detail="map")
        >>> code, label = torch.tensor([[0.9, -0.2], [-0.1, 0.7], [0.4, 0.3]]), torch.eye(3)
        >>> metric.update("query", code, code, label, torch.arange(3))
        >>> metric.update("database", code, code, label, torch.arange(3))
        >>> {key: round(float(value), 4) for key, value in metric.compute().items()}
        {'map_i2t': 1.0, 'map_t2i': 1.0}
    """

    embedding_type = torch.int64

    def _encode(self, outputs: Tensor, name: str) -> Tensor:
        return pack_bits(code_bits(outputs, name))

    def _decode(self, kept: Tensor, width: int) -> Tensor:
        return unpack_bits(kept, width).to(torch.int8) * 2 - 1

    def _ranker(self, query: Sequence[Tensor], database: Sequence[Tensor], width: int, itself: Tensor | None) -> Ranker:
        return CodeRanker(query, database, width, itself)


class CosineRetrieval(CrossModalRetrieval):
    """Retrieval by the cosine (or inner product) of real embeddings, in both directions, ranked exactly in float32.

    Args:
        detail: "map" computes mAP@all only; "full" everything in `xmodal.metrics.report` but the Hamming radius.
        cutoffs: where the rankings are cut.
        process_group: processes to merge over; None is the world.
        similarity: "cosine" normalises the embeddings; "inner" takes them as they are.
        within: see `CrossModalRetrieval`.
    """

    embedding_type = torch.float32

    def __init__(
        self,
        detail: Detail = "full",
        cutoffs: Cutoffs = Cutoffs(),
        process_group: dist.ProcessGroup | None = None,
        similarity: Literal["cosine", "inner"] = "cosine",
        within: bool = True,
    ) -> None:
        super().__init__(detail, cutoffs, process_group, within)
        if similarity not in ("cosine", "inner"):
            raise ValueError(f"similarity must be 'cosine' or 'inner', got {similarity!r}")
        self.similarity = similarity

    def _encode(self, outputs: Tensor, name: str) -> Tensor:
        return embedding_rows(outputs, name, scaled=self.similarity == "cosine")

    def _decode(self, kept: Tensor, width: int) -> Tensor:
        return kept

    def _ranker(self, query: Sequence[Tensor], database: Sequence[Tensor], width: int, itself: Tensor | None) -> Ranker:
        if self.similarity == "cosine":
            query, database = ([normalize(each) for each in side] for side in (query, database))
        return ScoreRanker(query, database, itself)


class RetrievalCollection(MetricCollection):
    """A collection whose `plot` draws the precision-recall curves instead of every number."""

    def plot(
        self,
        val: dict[str, Tensor] | Sequence[dict[str, Tensor]] | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        together: bool = True,
    ) -> list[tuple[Figure | SubFigure, Axes]]:
        """See `HammingRetrieval.plot`; `val` and `together` are torchmetrics' and change nothing."""
        self.compute()
        return [metric.plot(ax=ax) for metric in self.values()]


def retrieval_metrics(
    kind: Literal["binary", "real"], detail: Detail = "full", cutoffs: Cutoffs = Cutoffs()
) -> RetrievalCollection:
    """Both directions of retrieval as a torchmetrics collection; `collection["retrieval"]` has the details.

    The directions are one member, because they share the state and the label test.

    Args:
        kind: "binary" ranks codes by Hamming distance, "real" embeddings by cosine.
        detail: "map" computes mAP@all only; "full" everything in `xmodal.metrics.report`.
        cutoffs: where the rankings are cut.

    Raises:
        ValueError: an unknown kind or detail.
    """
    if kind not in ("binary", "real"):
        raise ValueError(f"kind must be 'binary' or 'real', got {kind!r}")
    metric = HammingRetrieval if kind == "binary" else CosineRetrieval
    return RetrievalCollection({"retrieval": metric(detail, cutoffs)})
