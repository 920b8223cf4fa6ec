"""NUS-WIDE (Chua et al., CIVR 2009): 269,648 Flickr photos with tags and 81 concepts, and its usual selections."""

from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from xmodal.data.readers.files import Files, Forms, Photos
from xmodal.data.readers.release import Release, multi_hot
from xmodal.data.readers.text import split_lines
from xmodal.data.sets.benchmark import Benchmark
from xmodal.data.sets.protocols import PROTOCOLS
from xmodal.errors import UserError

TC21 = (
    *("animal", "beach", "buildings", "clouds", "flowers", "grass", "lake", "mountain", "ocean", "person", "plants"),
    *("reflection", "road", "rocks", "sky", "snow", "sunset", "tree", "vehicle", "water", "window"),
)
TC10 = ("animal", "buildings", "clouds", "grass", "lake", "person", "plants", "sky", "water", "window")  # most frequent


class NUSWide(Benchmark):
    """Photos or features, the 1,000 frequent tags as a vector or all tags as words, 10 or 21 concepts.

    Args:
        selection: `tc21`: photos with one of the 21 most frequent concepts (195,834); `tc10`: of the ten most frequent
            (186,577); `10k`: 10,000 photos with exactly one of ten classes, official lists (CLIP4CMR).
        text: of the original release: `vector` over the 1,000 frequent tags, or `words`: all tags of a photo.
    """

    name = "nuswide"
    recipes = PROTOCOLS["nuswide"]
    forms: ClassVar[Forms] = {
        "original": ("Labels_sky.txt", "Imagelist.txt", "AllTags1k.txt", "All_Tags.txt", "*.jpg"),
        "djsrh, ucch": ("nus-wide-tc*-[ix]all*.mat", "nus-wide-tc*-yall.mat", "nus-wide-tc*-lall.mat"),
        "dadh": ("NUS-WIDE-TC21.mat",),
        "torchcmh": ("imgList21.mat", "tagList21.mat", "labelList21.mat"),
        "dchmt, mith": ("index.mat", "caption.mat", "label.mat", "*.jpg"),
        "10k": ("split/train.txt", "split/test.txt", "text/*.json", "*.jpg"),
        "10k, clip4cmr": ("clip_train.pkl", "clip_test.pkl"),
    }
    origin = "the NUS-WIDE page of the National University of Singapore; the photos on application, or a re-upload"

    def __init__(
        self,
        selection: Literal["tc10", "tc21", "10k"] = "tc21",
        text: Literal["vector", "words"] = "vector",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.selection, self.text = selection, text

    def file_match(self) -> str:
        """`tc10` and `tc21` files may lie in one folder."""
        return self.selection

    def arrange(self, release: Release) -> Release:
        """Refuse the files of another selection."""
        wanted = 21 if self.selection == "tc21" else 10
        if release.label.shape[1] != wanted:
            raise UserError(
                f"{self.root} holds {release.label.shape[1]} labels, selection {self.selection} has {wanted}: say "
                "--data.selection tc10, tc21 or 10k."
            )
        return release

    def original(self) -> Release | None:
        """Concepts, tags and photo list of the release; photos without one of the concepts are left out and counted."""
        files = Files(self.root)
        if self.selection == "10k":
            return self._single(files)
        names = TC21 if self.selection == "tc21" else TC10
        concepts = [files.find(f"AllLabels/Labels_{name}.txt") for name in names]
        lists = files.find("Imagelist.txt")
        if not all(concepts) or lists is None:
            return None
        name = "AllTags1k.txt" if self.text == "vector" else "All_Tags.txt"
        tags = files.find(name)
        if tags is None:
            raise UserError(f"{self.root} lacks {name} of NUS_WID_Tags.zip, which data.text={self.text} is read from.")
        columns = [files.text(entry).split() for entry in concepts if entry]
        photos = files.lines(lists)
        lines = split_lines(files.text(tags))
        if {len(column) for column in columns} | {len(lines)} != {len(photos)}:
            counts = sorted({len(column) for column in columns})
            raise UserError(
                f"{self.root} lists {len(photos)} photos, {counts} labels and {len(lines)} tag lines: use the "
                "original files."
            )
        what = f"{self.root}, Labels_*.txt"
        label = multi_hot(_numbers(columns, what).T, what, len(names))
        kept = np.flatnonzero(label.any(1))
        text: NDArray[Any] | list[str]
        if self.text == "vector":
            text = _numbers([lines[row].split() for row in kept], str(tags.path)).astype(np.float32)
        else:  # a photo id, then the tags
            text = [" ".join(lines[row].split()[1:]) for row in kept]
        images = Photos(files, [photos[row] for row in kept], self.max_corrupt)
        notes = {"left_out_without_label": len(photos) - len(kept)}
        return Release("original", images, text, label[kept], names, notes=notes)

    def _single(self, files: Files) -> Release | None:
        """CLIP4CMR's layout: `<id>:<class>` in a line of a list, the tags as a string in `text/<id>.json`."""
        parts = {"train": "train", "val": "valid", "test": "test"}
        lists = {role: files.find(f"split/{part}.txt") for role, part in parts.items()}
        if not (lists["train"] and lists["test"]):
            return None
        photos: list[str] = []
        classes: list[str] = []
        roles: dict[str, NDArray[np.int64]] = {}
        for role, entry in lists.items():
            lines = files.lines(entry) if entry else []
            if wrong := [line for line in lines if ":" not in line]:
                raise UserError(f"{role} list of {self.root}: the line {wrong[0]!r} is not `<id>:<class>`.")
            roles |= {role: np.arange(len(photos), len(photos) + len(lines))} if lines else {}
            photos += [line.rpartition(":")[0] for line in lines]
            classes += [line.rpartition(":")[2] for line in lines]
        label = multi_hot(_numbers([classes], f"{self.root}, split/*.txt"), f"{self.root}, split/*.txt", 10)
        texts = [self._tags(files, photo) for photo in photos]
        images = Photos(files, [f"{photo}.jpg" for photo in photos], self.max_corrupt)
        return Release("original", images, texts, label, tuple(f"class{k}" for k in range(1, 11)), roles=roles)

    def _tags(self, files: Files, photo: str) -> str:
        entry = files.find(f"text/{photo}.json")
        if entry is None:
            raise UserError(f"{self.root} lacks text/{photo}.json, which a list names: use the original files.")
        try:
            return " ".join(files.json(entry).split())
        except AttributeError as error:
            raise UserError(f"{entry.path} is damaged ({error}): it holds no string of tags.") from error


def _numbers(rows: list[list[str]], what: str) -> NDArray[np.int64]:
    try:
        return np.array(rows, np.int64)
    except ValueError as error:
        raise UserError(f"{what} is damaged: not a table of whole numbers ({error}). Download it again.") from error
