"""What both retrieval metrics are: states keyed by dataset index, merged and evaluated exactly over processes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Literal, get_args

import numpy as np
import torch
import torch.distributed as dist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor
from torchmetrics import Metric

from xmodal.metrics.curves import Curve, plot_curves
from xmodal.metrics.distributed import gather_rows, processes, rows_by_index, sum_over_processes
from xmodal.metrics.packing import label_bits, pack_bits
from xmodal.metrics.rankers import Ranker
from xmodal.metrics.report import (
    DIRECTIONS,
    Columns,
    Cutoffs,
    Detail,
    State,
    describe,
    evaluate_queries,
    finish_curves,
    finish_values,
    relevances,
)

Split = Literal["query", "database"]
_MISMATCH = "outputs of {} columns and {} labels do not fit those of {} columns and {} labels"

_FIELDS = ("index", "image", "text", "label", "hierarchy", "group")


class CrossModalRetrieval(Metric, ABC):
    """What the retrieval metrics have in common: states keyed by dataset index, and sharded, exact evaluation.

    The state of an item is its packed code (or embedding), packed labels and dataset index. `compute` gathers it from
    all processes, drops what a padding sampler repeated, orders it by index, ranks the database for this process's
    share of the queries and merges the results; torchmetrics' own merging, where every process repeats everything and
    one without samples fails, is not used.

    Args:
        detail: "map" computes mAP@all only; "full" everything in `xmodal.metrics.report`.
        cutoffs: where the rankings are cut.
        process_group: processes to merge over; None is the world.
    """

    full_state_update: bool | None = False
    is_differentiable: bool | None = False
    higher_is_better: bool | None = True
    embedding_type: ClassVar[torch.dtype]

    def __init__(
        self, detail: Detail = "full", cutoffs: Cutoffs = Cutoffs(), process_group: dist.ProcessGroup | None = None
    ) -> None:
        super().__init__(sync_on_compute=False, process_group=process_group)
        if detail not in get_args(Detail):
            raise ValueError(f"detail must be one of {', '.join(get_args(Detail))}, got {detail!r}")
        self.detail, self.cutoffs = detail, cutoffs
        self._types = dict.fromkeys(_FIELDS, torch.int64)
        self._types |= {"image": self.embedding_type, "text": self.embedding_type}
        for split in get_args(Split):
            for name in _FIELDS:
                self.add_state(f"{split}_{name}", default=[], dist_reduce_fx="cat")
        self._width: Tensor | None = None
        self._clear()

    def _clear(self) -> None:
        self._values: dict[str, Columns] = {}
        self._curves: dict[str, Curve] = {}
        self._queries = torch.empty(0, dtype=torch.int64)

    @abstractmethod
    def _encode(self, outputs: Tensor, name: str) -> Tensor:
        """What is kept of a batch of outputs (B, K)."""

    @abstractmethod
    def _ranker(self, query: Sequence[Tensor], database: Sequence[Tensor], width: int) -> Ranker:
        """The ranker of the kept outputs, one tensor for each direction."""

    def update(
        self,
        split: Split,
        image: Tensor,
        text: Tensor,
        label: Tensor,
        index: Tensor,
        hierarchy: Tensor | None = None,
        group: Tensor | None = None,
    ) -> None:
        """Add a batch of pairs.

        Args:
            split: "query" or "database". The two may hold the same pairs (then a query finds its own counterpart too).
            image: (B, K) network outputs for the images.
            text: (B, K) network outputs for the texts.
            label: (B, C) multi-hot labels.
            index: (B,) position of each pair in the dataset: the identity of the pair, and the order of ties in
                `map[stable]`.
            hierarchy: (B, layers) class number in each layer, coarsest first. Relevant is then the same class of the
                last layer, and a layer shared counts one grade.
            group: (B,) id of the picture that a pair's text describes; a query's counterparts in R@K share its id,
                and among the images of the database an id counts once.

        Raises:
            ValueError: a wrong split, shape or type, outputs that are not finite, labels that are not 0 or 1.
        """
        if split not in get_args(Split):
            raise ValueError(f"split must be 'query' or 'database', got {split!r}")
        if image.shape != text.shape:
            raise ValueError(f"image and text differ in shape: {tuple(image.shape)} and {tuple(text.shape)}")
        labels = label_bits(label, "label")
        columns = {"index": _ids(index, "index"), "label": pack_bits(labels)}
        columns |= {"image": self._encode(image, "image"), "text": self._encode(text, "text")}
        if hierarchy is not None:
            columns["hierarchy"] = _classes(hierarchy)
        if group is not None:
            columns["group"] = _ids(group, "group")
        wrong = {name: len(column) for name, column in columns.items() if len(column) != len(image)}
        if wrong:
            raise ValueError(f"a batch of {len(image)} images came with {wrong} rows")
        width = torch.tensor([[image.shape[1], label.shape[1]]])
        if self._width is not None and not torch.equal(width, self._width):
            raise ValueError(_MISMATCH.format(*self._width[0].tolist(), *width[0].tolist()))
        self._width = width
        for name, column in columns.items():
            getattr(self, f"{split}_{name}").append(column)
        self._clear()

    def compute(self) -> dict[str, Tensor]:
        """Every metric, by a key that says direction and convention; `conventions` puts the keys into words.

        Raises:
            ValueError: no queries or no database, or batches that do not fit together.
        """
        width = gather_rows({"width": self._width}, {"width": torch.int64}, self.process_group).get("width")
        if width is not None and bool((width != width[:1]).any()):
            raise ValueError(_MISMATCH.format(*width.amin(0).tolist(), *width.amax(0).tolist()))
        query, database = (self._gathered(split) for split in get_args(Split))
        bits, labels = (0, 0) if width is None else width[0].tolist()
        rank, world = processes(self.process_group)
        bounds = np.linspace(0, len(query["index"]), world + 1).astype(int)
        ranker = self._ranker(
            [query[side] for side, _ in DIRECTIONS.values()], [database[side] for _, side in DIRECTIONS.values()], bits
        )
        both = [name for name in ("hierarchy", "group") if (name in query) != (name in database)]
        if both:
            raise ValueError(f"{both[0]} was given for one split only: give it for query and database, or for neither")
        groups = (query["group"][:, 0], database["group"][:, 0]) if "group" in query else None
        values, sums = evaluate_queries(
            ranker,
            slice(int(bounds[rank]), int(bounds[rank + 1])),
            relevances(query, database, labels, self.detail),
            groups,
            self.detail,
            self.cutoffs,
        )
        self._values = {d: self._merged_values(part) for d, part in zip(DIRECTIONS, values, strict=True)}
        self._queries = query["index"][:, 0].cpu()
        self._curves = {}
        if self.detail == "full":
            for direction, part in zip(DIRECTIONS, sums, strict=True):
                merged = {
                    name: sum_over_processes(torch.from_numpy(total), self.process_group).numpy()
                    for name, total in part.items()
                }
                self._curves |= {f"{name}_{direction}": curve for name, curve in finish_curves(merged).items()}
        return {
            f"{name}_{direction}": torch.tensor(value, dtype=torch.float64, device=self.device)
            for direction, part in self._values.items()
            for name, value in finish_values(part).items()
        }

    def _gathered(self, split: Split) -> State:
        states = {name: getattr(self, f"{split}_{name}") for name in _FIELDS}
        local = {name: torch.cat(list(state)) if len(state) else None for name, state in states.items()}
        merged = gather_rows(local, self._types, self.process_group)
        if "index" not in merged:
            raise ValueError(f"no {split} pairs: call update(split={split!r}, ...) before compute")
        total = len(merged["index"])
        partial = {name: len(column) for name, column in merged.items() if len(column) != total}
        if partial:
            raise ValueError(f"{split} has {total} pairs but {partial}: give hierarchy and group always or never")
        rows = rows_by_index(merged["index"][:, 0])
        return {name: column[rows] for name, column in merged.items()}

    def _merged_values(self, values: Columns) -> Columns:
        names = list(values)
        rows = torch.from_numpy(np.column_stack([values[name] for name in names]))
        merged = gather_rows({"values": rows}, {"values": torch.float64}, self.process_group)["values"]
        return dict(zip(names, merged.cpu().numpy().T, strict=True))

    @property
    def conventions(self) -> dict[str, str]:
        """What each key of the last `compute` means, in words."""
        self._check_computed()
        return {
            f"{name}_{d}": describe(f"{name}_{d}") for d, part in self._values.items() for name in finish_values(part)
        }

    @property
    def average_precisions(self) -> dict[str, Tensor]:
        """AP of each query in the default convention, (Q,) float64 for each direction, in the order of `queries`."""
        self._check_computed()
        return {direction: torch.from_numpy(part["map"].copy()) for direction, part in self._values.items()}

    @property
    def queries(self) -> Tensor:
        """Dataset index of each query, (Q,)."""
        self._check_computed()
        return self._queries

    @property
    def curves(self) -> dict[str, Curve]:
        """Precision-recall curves of the last `compute` by name and direction; empty with detail="map"."""
        self._check_computed()
        return dict(self._curves)

    def plot(self, val: None = None, ax: Axes | None = None) -> tuple[Figure | SubFigure, Axes]:
        """Draw the precision-recall curves by rank of both directions, and by radius, dashed, for codes.

        Args:
            val: not used; the curves are those of the last `compute`.
            ax: where to draw; a new figure by default.

        Raises:
            RuntimeError: nothing computed yet.
            ValueError: the metric was computed with detail="map", which has no curves.
        """
        if not self.curves:
            raise ValueError('the curves need detail="full", got detail="map"')
        return plot_curves(self.curves, ax)

    def reset(self) -> None:
        """Forget all pairs and results."""
        super().reset()
        self._width = None
        self._clear()

    def _check_computed(self) -> None:
        if not self._values:
            raise RuntimeError("nothing computed yet: call compute() first")


def _ids(ids: Tensor, name: str) -> Tensor:
    if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex():
        raise ValueError(f"{name} must hold integers with shape (B,), got {ids.dtype} {tuple(ids.shape)}")
    return ids.long()[:, None]


def _classes(hierarchy: Tensor) -> Tensor:
    if hierarchy.ndim != 2 or hierarchy.is_floating_point() or (hierarchy < 0).any():
        raise ValueError(
            f"hierarchy must hold class numbers with shape (B, layers), got {hierarchy.dtype} {tuple(hierarchy.shape)}"
        )
    return hierarchy.long()
