"""What both retrieval metrics are: states keyed by dataset index, merged and evaluated exactly over processes."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, get_args

import numpy as np
import torch
import torch.distributed as dist
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from torch import Tensor
from torchmetrics import Metric

from xmodal.metrics.curves import Curve, plot_curves
from xmodal.metrics.distributed import gather_rows, gather_values, processes, rows_by_index, sum_over_processes
from xmodal.metrics.packing import label_bits, pack_bits
from xmodal.metrics.rankers import Ranker
from xmodal.metrics.report import (
    ACROSS,
    DIRECTIONS,
    WITHIN,
    Columns,
    Cutoffs,
    Detail,
    criteria,
    describe,
    evaluate_queries,
    finish_curves,
    finish_values,
)
from xmodal.metrics.states import Split, classes_column, ids_column, joined, kept_of, relevance, rows_of
from xmodal.relevance import COLUMNS, Relevance

_MISMATCH = "outputs of {} columns and {} labels do not fit those of {} columns and {} labels"
_FIELDS = ("image", "text", *COLUMNS)


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
        within: whether "full" also has the mAP within a modality, `map_i2i` and `map_t2t`.
    """

    full_state_update: bool | None = False
    is_differentiable: bool | None = False
    higher_is_better: bool | None = True
    embedding_type: ClassVar[torch.dtype]
    width: list[Tensor]

    def __init__(
        self,
        detail: Detail = "full",
        cutoffs: Cutoffs = Cutoffs(),
        process_group: dist.ProcessGroup | None = None,
        within: bool = True,
    ) -> None:
        super().__init__(sync_on_compute=False, process_group=process_group)
        if detail not in get_args(Detail):
            raise ValueError(f"detail must be one of {', '.join(get_args(Detail))}, got {detail!r}")
        self.detail, self.cutoffs, self.within = detail, cutoffs, within and detail == "full"
        self._types = dict.fromkeys(_FIELDS, torch.int64)
        self._types |= {"image": self.embedding_type, "text": self.embedding_type}
        for split in get_args(Split):
            for name in _FIELDS:
                self.add_state(f"{split}_{name}", default=[], dist_reduce_fx="cat")
        self.add_state("width", default=[], dist_reduce_fx="cat")  # a state: merged metrics and compute groups need it
        self.register_load_state_dict_post_hook(CrossModalRetrieval._clear)  # type: ignore[no-untyped-call]
        self._clear()

    def _clear(self, *_: object) -> None:
        self._values: dict[str, Columns] = {}
        self._curves: dict[str, Curve] = {}
        self._queries = torch.empty(0, dtype=torch.int64)
        self._ranked: dict[str, tuple[Tensor, Tensor, Relevance]] = {}
        self._computed, self._bits = None, 0

    @abstractmethod
    def _encode(self, outputs: Tensor, name: str) -> Tensor:
        """What is kept of a batch of outputs (B, K)."""

    @abstractmethod
    def _decode(self, kept: Tensor, width: int) -> Tensor:
        """The codes in {-1, +1} or the embeddings that were kept, (B, K)."""

    @abstractmethod
    def _ranker(self, query: Sequence[Tensor], database: Sequence[Tensor], width: int, itself: Tensor | None) -> Ranker:
        """The ranker of the kept outputs, one tensor for each direction; `itself` as in `Ranker`."""

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
            split: "query" or "database". The two may hold the same pairs: a query then finds its own counterpart in the
                other modality, and never itself within its own.
            image: (B, K) network outputs for the images.
            text: (B, K) network outputs for the texts.
            label: (B, C) multi-hot labels, or (B,) class numbers.
            index: (B,) position of each pair in the dataset: the identity of the pair, and the order of ties in
                `map[stable]`.
            hierarchy: (B, layers) class number in each layer, coarsest first. Relevant is then the same class of the
                last layer, and a layer shared counts one grade.
            group: (B,) id of the picture that a pair's text describes; a query's counterparts in R@K share its id,
                and wherever images are searched an id is one item.

        Raises:
            ValueError: a wrong split, shape or type, outputs that are not finite, labels that are not 0 or 1.
        """
        if split not in get_args(Split):
            raise ValueError(f"split must be 'query' or 'database', got {split!r}")
        if image.shape != text.shape:
            raise ValueError(f"image and text differ in shape: {tuple(image.shape)} and {tuple(text.shape)}")
        by_class = label.ndim == 1
        columns = {"index": ids_column(index, "index")}
        columns["label"] = ids_column(label, "label") if by_class else pack_bits(label_bits(label, "label"))
        columns |= {"image": self._encode(image, "image"), "text": self._encode(text, "text")}
        if hierarchy is not None:
            columns["hierarchy"] = classes_column(hierarchy)
        if group is not None:
            columns["group"] = ids_column(group, "group")
        wrong = {name: len(column) for name, column in columns.items() if len(column) != len(image)}
        if wrong:
            raise ValueError(f"a batch of {len(image)} images came with {wrong} rows")
        width = [image.shape[1], 0 if by_class else label.shape[1]]
        if self.width and self.width[0][0].tolist() != width:
            raise ValueError(_MISMATCH.format(*self.width[0][0].tolist(), *width))
        self.width = self.width or [torch.tensor([width])]
        for name, column in columns.items():
            getattr(self, f"{split}_{name}").append(column)
        self._clear()

    def compute(self) -> dict[str, Tensor]:
        """Every metric, by a key that says direction and convention; `conventions` puts the keys into words.

        Raises:
            ValueError: no queries or no database, or batches that do not fit together.
        """
        kept = joined({"width": self.width}, {"width": torch.int64})
        width = gather_rows(kept, {"width": torch.int64}, self.process_group).get("width")
        if width is not None and bool((width != width[:1]).any()):
            raise ValueError(_MISMATCH.format(*width.amin(0).tolist(), *width.amax(0).tolist()))
        query, database = (self._gathered(split) for split in get_args(Split))
        self._bits, labels = (0, 0) if width is None else width[0].tolist()
        both = [name for name in ("hierarchy", "group") if (name in query) != (name in database)]
        if both:
            raise ValueError(f"{both[0]} was given for one split only: give it for query and database, or for neither")
        self._ranked = {
            split: (state["image"], state["text"], relevance(state, labels))
            for split, state in zip(get_args(Split), (query, database), strict=True)
        }
        self._queries, self._values, self._curves = query["index"][:, 0].cpu(), {}, {}
        every = (ACROSS, WITHIN) if self.within else (ACROSS,)
        together = every if "group" not in query else [(direction,) for part in every for direction in part]
        for directions in together:
            self._search(directions)
        if self.detail == "map":
            self._ranked = {}
        return {
            f"{name}_{direction}": torch.tensor(value, dtype=torch.float64, device=self.device)
            for direction, part in self._values.items()
            for name, value in finish_values(part).items()
        }

    def _search(self, directions: Sequence[str]) -> None:
        """Rank this process's share of the queries, in directions that share queries and items, and merge."""
        (*asked, queries), (*found, items) = (self._ranked[split] for split in get_args(Split))
        sides = [DIRECTIONS[direction] for direction in directions]
        within = directions[0] in WITHIN
        query = queries.distinct(sides[0][0]) if within else None
        database = items.distinct(sides[0][1])
        queries, items = rows_of(queries, query), rows_of(items, database)
        ranker = self._ranker(
            [kept_of(asked[side == "text"], query) for side, _ in sides],
            [kept_of(found[side == "text"], database) for _, side in sides],
            self._bits,
            queries.itself(items, sides[0][1]) if within else None,
        )
        rank, world = processes(self.process_group)
        bounds = np.linspace(0, len(queries.index), world + 1).astype(int)
        detail: Detail = "map" if within else self.detail
        groups = (queries.group, items.group) if queries.group is not None and items.group is not None else None
        shard = slice(int(bounds[rank]), int(bounds[rank + 1]))
        values, sums = evaluate_queries(ranker, shard, criteria(queries, items, detail), groups, detail, self.cutoffs)
        for direction, columns, part in zip(directions, values, sums, strict=True):
            merged = gather_values(columns, self.process_group)
            if within and not merged["map"].any():
                continue  # nothing is relevant, such as to a picture that has one of its kind
            self._values[direction] = merged
            if detail == "full":
                total = {
                    name: sum_over_processes(torch.from_numpy(each), self.process_group).numpy()
                    for name, each in part.items()
                }
                self._curves |= {f"{name}_{direction}": curve for name, curve in finish_curves(total).items()}

    def _gathered(self, split: Split) -> dict[str, Tensor]:
        local = joined({name: getattr(self, f"{split}_{name}") for name in _FIELDS}, self._types)
        merged = gather_rows(local, self._types, self.process_group)
        if "index" not in merged:
            raise ValueError(f"no {split} pairs: call update(split={split!r}, ...) before compute")
        total = len(merged["index"])
        partial = {name: len(column) for name, column in merged.items() if len(column) != total}
        if partial:
            raise ValueError(f"{split} has {total} pairs but {partial}: give hierarchy and group always or never")
        rows = rows_by_index(merged["index"][:, 0], merged["label"])
        return {name: column[rows] for name, column in merged.items()}

    @property
    def conventions(self) -> dict[str, str]:
        """What each key of the last `compute` means, in words."""
        self._check_computed()
        return {
            f"{name}_{d}": describe(f"{name}_{d}") for d, part in self._values.items() for name in finish_values(part)
        }

    @property
    def average_precisions(self) -> dict[str, Tensor]:
        """AP of each query in the default convention, (Q,) float64 for each direction, in the order of `queries`.

        Of pictures with several captions, `i2i` has one value for each picture.
        """
        self._check_computed()
        return {direction: torch.from_numpy(part["map"].copy()) for direction, part in self._values.items()}

    @property
    def queries(self) -> Tensor:
        """Dataset index of each query, (Q,)."""
        self._check_computed()
        return self._queries

    @property
    def outputs(self) -> dict[str, Tensor]:
        """What the last `compute` ranked, as `xmodal evaluate` reads it; of all processes, in the order of the dataset.

        `query_image`, `query_text`, `database_image`, `database_text` are codes in {-1, +1} or embeddings, and each
        split has the columns of `Relevance`, such as `query_label`. Empty with detail="map".
        """
        self._check_computed()
        return {
            f"{split}_{name}": column
            for split, (image, text, judged) in self._ranked.items()
            for name, column in {
                "image": self._decode(image, self._bits),
                "text": self._decode(text, self._bits),
                **judged.columns(),
            }.items()
        }

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
        self._clear()

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Add the pairs of another metric; see torchmetrics, which would go on giving the result of before."""
        super().merge_state(incoming_state)
        self._clear()

    def _check_computed(self) -> None:
        if not self._values:
            raise RuntimeError("nothing computed yet: call compute() first")
