"""IAPR TC-12 (Grubinger et al., LREC workshop 2006): about 20,000 photos with descriptions.

Labels: the 291 words and the lists of Guillaumin et al. (ICCV 2009), or what the files of a method bring (255 and 275
labels occur, after Escalante et al., CVIU 2010).
"""

import re
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from xmodal.data.readers.files import Entry, Files, Forms, Photos
from xmodal.data.readers.release import Release, multi_hot
from xmodal.data.sets.benchmark import Benchmark
from xmodal.data.sets.protocols import PROTOCOLS
from xmodal.errors import UserError


class IAPRTC12(Benchmark):
    """Photos with English descriptions and 291 labels; or features or photos with as many labels as the files have."""

    name = "iapr-tc12"
    recipes = PROTOCOLS["iapr-tc12"]
    forms: ClassVar[Forms] = {
        "original": ("*.eng", "iaprtc12_dictionary.txt", "iaprtc12_*_list.txt", "iaprtc12_*_annot.hvecs", "*.jpg"),
        "ucch": ("iapr-tc12-rand.mat",),
        "torchcmh": ("imgList.mat", "tagList.mat", "labelList.mat"),
        "dchmt": ("index.mat", "caption.mat", "label.mat", "*.jpg"),
    }
    origin = (
        "imageclef.org/photodata: iaprtc12.tgz, unpacked; lists and labels from LEAR, INRIA: "
        "iaprtc12.20091111.tar.bz2, unpacked; the other forms from the authors of the methods"
    )

    def original(self) -> Release | None:
        """The lists in their order, training first; photos whose description is missing are left out and counted."""
        files = Files(self.root)
        dictionary = files.find("iaprtc12_dictionary.txt")
        lists = [
            (files.find(f"iaprtc12_{role}_list.txt"), files.find(f"iaprtc12_{role}_annot.hvecs")) for role in ROLES
        ]
        if dictionary is None or not all(entry for pair in lists for entry in pair):
            return None
        names = tuple(files.text(dictionary).split())
        photos: list[str] = []
        parts: list[NDArray[np.uint8]] = []
        for listed, vectors in lists:
            if listed and vectors:
                lines = files.lines(listed)
                parts.append(_hvecs(files.read(vectors), len(lines), len(names), vectors))
                photos += lines
        texts = [_description(files, photo) for photo in photos]
        bounds = np.cumsum([0, *map(len, parts)])
        roles = {role: np.arange(bounds[k], bounds[k + 1]) for k, role in enumerate(ROLES)}
        images = Photos(files, [f"images/{photo}.jpg" for photo in photos], self.max_corrupt)
        release = Release("original", images, texts, np.concatenate(parts), names, roles=roles)
        kept = np.flatnonzero([bool(text) for text in texts])
        return release.take(kept, left_out_without_text=len(texts) - len(kept))


ROLES = ("train", "test")


def _hvecs(content: bytes, rows: int, width: int, entry: Entry) -> NDArray[np.uint8]:
    """(rows, width) of LEAR's vectors: 16-bit numbers, each row led by its length."""
    if len(content) != 2 * rows * (width + 1):
        raise UserError(
            f"{entry.path} holds {len(content)} bytes, {rows} photos of {width} labels need {2 * rows * (width + 1)}: "
            "use the original files."
        )
    table = np.frombuffer(content, "<i2").reshape(rows, width + 1)
    if (table[:, 0] != width).any():
        raise UserError(f"{entry.path} is damaged: a row is not led by {width}. Download it again.")
    return multi_hot(table[:, 1:], str(entry.path), width)


def _description(files: Files, photo: str) -> str:
    entry = files.find(f"annotations_complete_eng/{photo}.eng")
    found = re.search(r"<DESCRIPTION>(.*?)</DESCRIPTION>", files.text(entry), re.S) if entry else None
    return " ".join(found[1].split()) if found else ""
