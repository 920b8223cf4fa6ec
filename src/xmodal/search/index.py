"""An index of what a trained run encoded: built once, opened by memory map, asked with texts and pictures."""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from xmodal import paths
from xmodal.batch import OTHER, SIDES, Features, Side
from xmodal.data.module import CrossModalDataModule
from xmodal.data.readers.files import Files
from xmodal.encoders import open_picture
from xmodal.errors import UserError
from xmodal.own import imported
from xmodal.relevance import Relevance
from xmodal.search.engine import Array, Engine, Found
from xmodal.search.sources import read_picture
from xmodal.search.strings import Strings
from xmodal.search.trained import Trained

FORM = 2  # of the files; another number is another form
TOGETHER = 64  # queries that are decoded and encoded at a time


@dataclass(frozen=True)
class Hit:
    """One item that was found.

    Attributes:
        rank: 1 for the nearest.
        id: its number: the position in the dataset, the row of the table, or the place of the picture in the folder.
        distance: Hamming distance of codes, 1 - cosine of embeddings.
        name: path of a picture below the folder, or a text; a dataset's picture is named by its text.
        score: of the second stage, in methods that have one; the higher, the nearer.
    """

    rank: int
    id: int
    distance: float
    name: str
    score: float | None = None


class Answers(Sequence[list[Hit]]):
    """The hits of each query, made when they are asked for.

    Attributes:
        side: of what was found.
        ids: (B, k) ids; -1 behind the last hit.
        distances: (B, k).
        counts: (B,) hits of each query.
        scores: (B, k) of the second stage, NaN behind its hits; or None.
    """

    def __init__(self, index: "Index", side: Side, found: Found, scores: Array | None = None) -> None:
        self.searched, self.side, self.found, self.scores = index, side, found, scores
        self.distances, self.counts = found.distances, found.counts

    @cached_property
    def ids(self) -> Array:
        """See the class."""
        return np.where(self.found.rows < 0, -1, self.searched.ids[self.side][self.found.rows])

    def of(self, query: int) -> "Answers":
        """The answer to one query alone."""
        found = self.found
        some = slice(query, query + 1)
        scores = None if self.scores is None else self.scores[some]
        return Answers(
            self.searched, self.side, Found(found.rows[some], found.distances[some], found.counts[some]), scores
        )

    def __len__(self) -> int:
        return len(self.found.rows)

    def __getitem__(self, query: Any) -> Any:  # noqa: ANN401 - a number or a slice
        if isinstance(query, slice):
            return [self[each] for each in range(*query.indices(len(self)))]
        names, hits = self.searched.names[self.side], []
        for place in range(int(self.counts[query])):
            row, distance = int(self.found.rows[query, place]), self.distances[query, place].item()
            score = None if self.scores is None else float(self.scores[query, place])
            score = None if score is None or np.isnan(score) else score
            hits.append(Hit(place + 1, int(self.searched.ids[self.side][row]), distance, names[row], score))
        return hits


class Index:
    """A folder of one or two searchable sides; `build_index` writes one, `Index.open` reads it.

    Args:
        folder: of the index.
        about: what `index.json` says.
        run: the run, where it lies elsewhere than it did.
    """

    def __init__(self, folder: Path, about: dict[str, Any], run: str | Path | None = None) -> None:
        self.folder, self.about, self._run = folder, about, run
        self.bits: int = about["bits"]
        self.engines: dict[Side, Engine] = {}
        self.ids: dict[Side, Array] = {}
        self.names: dict[Side, Strings] = {}
        for side in SIDES:
            if side in about["sides"]:
                self._read(side)

    @classmethod
    def open(cls, path: str | Path, run: str | Path | None = None) -> "Index":
        """Open an index; its codes stay on the disk until they are searched.

        Args:
            path: its folder, from here or from the home of the suite (`xmodal.paths.home`).
            run: the folder of the run that made it, where it was moved.

        Raises:
            UserError: there is none, or it is damaged or of another version.
        """
        file = next((file for each in paths.places(path) if (file := each / "index.json").is_file()), None)
        if file is None:
            raise UserError(f"there is no index in {path}, here or in {paths.home()}: `xmodal index RUN` makes one.")
        try:
            about = json.loads(file.read_text())
            form, _ = about["form"], about["sides"]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{file} is damaged: build the index again.") from error
        if form != FORM:
            made = about.get("versions", {}).get("xmodal", "another version")
            raise UserError(f"{path} is of form {form} (xmodal {made}), this version reads {FORM}: build it again.")
        return cls(file.parent, about, run)

    def _read(self, side: Side) -> None:
        for name, size in self.about["sides"][side]["files"].items():
            path = self.folder / side / name
            if not path.is_file() or path.stat().st_size != size:
                raise UserError(f"{path} is truncated or missing ({size} bytes expected): build the index again.")
        self.engines[side] = Engine(self.folder / side / "index.faiss", self.about["kind"], binary=bool(self.bits))
        self.ids[side] = np.load(self.folder / side / "ids.npy", mmap_mode="r")
        self.names[side] = Strings(self.folder / side)

    @cached_property
    def trained(self) -> Trained:
        """The run whose codes these are.

        Raises:
            UserError: it is gone, or was trained again since.
        """
        trained = Trained.open(self._run or self.about["run"])
        self.check(trained)
        trained.vocabulary = self.about["vocabulary"]
        return trained

    def check(self, trained: Trained) -> None:
        """Make sure that a run and this index belong together.

        Raises:
            UserError: the index is of another length, another run, or of weights that the run no longer has.
        """
        if trained.bits != self.bits:
            unit = [f"{bits} bits" if bits else "embeddings" for bits in (self.bits, trained.bits)]
            raise UserError(f"{self.folder} holds {unit[0]}, and {trained.folder} makes {unit[1]}: index that run.")
        if trained.checkpoint != self.about["checkpoint"]:
            raise UserError(
                f"{self.folder} is of {self.about['method']} in {self.about['run']} (checkpoint "
                f"{self.about['checkpoint'][:8]}), and {trained.folder} has other weights "
                f"({trained.checkpoint[:8]}): build the index again with `xmodal index {trained.folder}`."
            )

    def search(
        self,
        texts: Sequence[str] | None = None,
        images: Sequence[Image.Image | str | Path | bytes] | None = None,
        codes: Array | None = None,
        among: Side | None = None,
        k: int = 10,
    ) -> Answers:
        """The nearest items of each query, in the order (distance, id).

        Args:
            texts: queries in words.
            images: queries that are pictures, files of pictures, or their content.
            codes: queries that `Trained.encode` made; with `among`.
            among: the side that is searched; default: the other one, or the only one that the index has.
            k: hits of each query.

        Raises:
            UserError: not one kind of query, k below 1, a side that is not there, or a query that can't be read.
        """
        queries = {"texts": texts, "images": images, "codes": codes}
        if sum(each is not None for each in queries.values()) != 1 or k < 1:
            raise UserError(f"k is {k}: give one of texts, images and codes, and k from 1.")
        asked: Side = "text" if images is None else "image"
        side = among or (OTHER[asked] if OTHER[asked] in self.engines else next(iter(self.engines)))
        if side not in self.engines:
            raise UserError(f"{self.folder} holds no {side}s, only {', '.join(self.engines)}s.")
        if codes is not None:
            return Answers(self, side, self._nearest(side, codes, k))
        wanted: list[Any] = list(cast("Any", texts if texts is not None else images) or ())
        if not wanted:
            raise UserError("there is no query: give a text or a picture.")
        starts = range(0, len(wanted), TOGETHER)
        parts = (self._features(asked, wanted[start : start + TOGETHER]) for start in starts)
        if self.trained.method.reranks and asked != side:
            *found, scores = map(np.concatenate, zip(*(self._reranked(asked, part, k) for part in parts), strict=True))
            return Answers(self, side, Found(*found), scores)
        outputs = np.concatenate([self.trained.outputs(asked, part) for part in parts])
        return Answers(self, side, self._nearest(side, outputs, k))

    def _features(self, asked: Side, queries: Sequence[Any]) -> Features:
        items = [_picture(each) for each in queries] if asked == "image" else list(queries)
        return self.trained.features(asked, items)

    def _nearest(self, side: Side, outputs: Array, k: int) -> Found:
        engine = self.engines[side]
        expected = engine.width // 8 if self.bits else engine.width
        if outputs.ndim != 2 or outputs.shape[1] != expected:
            raise UserError(f"codes of shape {outputs.shape}: this index has rows of {expected} numbers.")
        return engine.search(outputs, k)

    @torch.inference_mode()
    def _reranked(self, asked: Side, features: Features, k: int) -> tuple[Array, Array, Array, Array]:
        """What is found, and scores (B, k): the first hits in the order of the method's second stage, then the others.

        Equal scores stay in the order of ids; hits without a score have NaN.
        """
        side, first = OTHER[asked], self.trained.method.reranks
        found = self._nearest(side, self.trained.outputs(asked, features), max(k, first))
        rows, distances = found.rows[:, :k].copy(), found.distances[:, :k].copy()
        scores = np.full(rows.shape, np.nan, np.float32)
        for query, count in enumerate(np.minimum(found.counts, first).tolist()):
            some = found.rows[query, :count]
            items = [self.item(side, row) for row in some.tolist()]
            if any(item is None for item in items):
                raise UserError(f"{self.folder}: the items themselves are gone, and the second stage reads them.")
            columns = cast("dict[str, Tensor]", features)
            own = {name: each[query : query + 1].expand(count, *each.shape[1:]) for name, each in columns.items()}
            pair = {asked: own, side: self.trained.features(side, cast("Any", items))}
            score = self.trained.method.pair_scores(cast("Any", pair["image"]), cast("Any", pair["text"])).numpy()
            order = np.lexsort((some, -score))[:k]
            rows[query, : len(order)], distances[query, : len(order)] = some[order], found.distances[query][order]
            scores[query, : len(order)] = score[order]
        return rows, distances, np.minimum(found.counts, k), scores

    @cached_property
    def data(self) -> CrossModalDataModule | None:
        """The dataset that was indexed; None for a folder."""
        source = self.about["source"]
        if "dataset" not in source:
            return None
        if "class_path" not in source:
            return self.trained.data
        return self.trained.other(imported(source["class_path"]), **source["init_args"])

    def item(self, side: Side, row: int) -> Image.Image | str | None:
        """A picture, or a text, as it was encoded; None for a picture that cannot be had."""
        if side == "text":
            return self.names["text"][row]
        name = self.names["image"][row]
        try:
            if self.data is not None:
                return self.data.picture(int(self.ids["image"][row]))
            if (entry := self._pictures.find(name)) is not None and entry.name == name:  # another folder's is another
                return open_picture(self._pictures.read(entry))
        except (UserError, OSError) as error:
            sys.stderr.write(f"no picture of {name!r}: {error}\n")
        return None

    @cached_property
    def _pictures(self) -> Files:
        return Files(Path(self.about["source"]["folder"]))

    @cached_property
    def relevance(self) -> dict[Side, Relevance]:
        """What the rows of each side are judged by; empty for a folder."""
        path = self.folder / "relevance.npz"
        if not path.is_file():
            return {}
        with np.load(path) as columns:
            whole = Relevance.of({name: columns[name] for name in columns.files})
        place = {int(position): row for row, position in enumerate(whole.index.tolist())}
        return {side: whole.at(torch.tensor([place[int(each)] for each in ids])) for side, ids in self.ids.items()}


def _picture(query: Image.Image | str | Path | bytes) -> Image.Image:
    if isinstance(query, Image.Image):
        return query.convert("RGB")
    return read_picture(query if isinstance(query, bytes) else Path(query))
