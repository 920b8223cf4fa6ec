"""MIRFLICKR-25K (Huiskes and Lew, MIR 2008): 25,000 Flickr photos with tags and 24 concepts.

20,015 pairs in the usual selection (1,386 tags of at least 20 uses); 24,581 where every labelled photo is kept.
"""

import re
from typing import Any, ClassVar, Literal

import numpy as np

from xmodal.data.readers.files import Entry, Files, Forms, Photos
from xmodal.data.readers.release import Release, indicator
from xmodal.data.sets.benchmark import Benchmark
from xmodal.data.sets.protocols import PROTOCOLS
from xmodal.errors import UserError

CLASSIC, LABELLED = 20015, 24581


class MIRFlickr25K(Benchmark):
    """Photos or features, tags as a vector (the classic selection) or as text, 24 concepts.

    Args:
        selection: of the original release: `tags`: photos with a label and at least one of the 1,386 frequent tags
            (20,015 pairs); `labels`: every photo with a label (24,581 pairs, DCHMT).
        text: of the original release: `vector` over the frequent tags, or `words`: all raw tags of a photo.
    """

    name = "mirflickr25k"
    recipes = PROTOCOLS["mirflickr25k"]
    num_classes = 24
    forms: ClassVar[Forms] = {
        "original": ("common_tags.txt", "tags1.txt", "im1.jpg", "plant_life.txt"),
        "dcmh": ("FLICKR-25K.mat",),
        "djsrh": ("mirflickr25k-iall*.mat", "mirflickr25k-yall.mat", "mirflickr25k-lall.mat"),
        "torchcmh": ("imgList.mat", "tagList.mat", "labelList.mat"),
        "dchmt, mith": ("index.mat", "caption.mat", "label.mat", "*.jpg"),
    }
    origin = (
        "press.liacs.nl/mirflickr (LIACS, Leiden): mirflickr25k.zip and mirflickr25k_annotations_v080.zip; the "
        ".mat files from the authors of the methods named"
    )

    def __init__(
        self,
        selection: Literal["tags", "labels"] = "tags",
        text: Literal["vector", "words"] = "vector",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.selection, self.text = selection, text

    def original(self) -> Release | None:
        """Tags from `meta/tags`, concepts from the 24 annotation files without `_r1`, folders or zips alike."""
        files = Files(self.root)
        tags = {_number(entry): entry for entry in files.entries(".txt", "tags/tags")}
        concepts = {
            entry.name.rpartition("/")[2].removesuffix(".txt"): entry
            for entry in files.entries(".txt")
            if "annotations" in f"{entry.path}/{entry.name}" and not entry.name.endswith(("_r1.txt", "README.txt"))
        }
        if not tags or len(concepts) != 24:
            return None
        numbers = sorted(tags)
        row = {number: position for position, number in enumerate(numbers)}
        label = np.zeros((len(numbers), 24), np.uint8)
        names = tuple(sorted(concepts))
        for column, name in enumerate(names):
            for line in files.lines(concepts[name]):
                if not line.isdigit() or int(line) not in row:
                    raise UserError(
                        f"{concepts[name].name} in {concepts[name].path} names photo {line!r}, but the tags are of "
                        f"photos {numbers[0]} to {numbers[-1]}: use the original files."
                    )
                label[row[int(line)], column] = 1
        words = [[word.lower() for word in files.lines(tags[number])] for number in numbers]
        photos = Photos(files, [f"im{number}.jpg" for number in numbers], self.max_corrupt)
        common = files.find("common_tags.txt")
        if common is None:
            raise UserError(f"{self.root} lacks doc/common_tags.txt, the frequent tags: it is in mirflickr25k.zip.")
        vector = indicator(words, [line.split()[0] for line in files.lines(common)]).astype(np.float32)
        text: Any = vector if self.text == "vector" else [" ".join(each) for each in words]
        release = Release("original", photos, text, label, names)
        if self.selection == "labels":
            return release
        kept = np.flatnonzero(vector.any(1))
        return release.take(kept, left_out_without_tag=len(numbers) - len(kept))


def _number(entry: Entry) -> int:
    return int(re.findall(r"\d+", entry.name.rpartition("/")[2])[0])
