"""Fashion product images (Aggarwal, Kaggle 2019): 44,000 product photos with titles and three layers of classes."""

from collections import Counter
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from xmodal.data.readers.files import Files, Forms, Photos
from xmodal.data.readers.release import Release, indicator, off_tree
from xmodal.data.readers.text import csv_rows
from xmodal.data.sets.benchmark import Benchmark
from xmodal.data.sets.protocols import PROTOCOLS
from xmodal.encoders import ImageEncoder, TimmImage
from xmodal.errors import UserError
from xmodal.relevance import Rule

COLUMNS = ("id", "masterCategory", "subCategory", "articleType", "baseColour", "usage", "productDisplayName")
LAYERS = ("masterCategory", "subCategory", "articleType")
ATTRIBUTES = ("subCategory", "articleType", "baseColour", "usage")
COMMON = 100  # an article type needs so many products to count as a class
EVERYWHERE = 0.5  # an attribute that more than this share of the products has tells nothing apart


class Fashion(Benchmark):
    """Photos with titles; relevance by class, because three titles in ten repeat.

    Args:
        labels: `hierarchy`: the strict tree of master category, sub-category and article type: products on the path
            that most products of their article type have, of article types with at least 100 such products;
            `attributes`: every product, with sub-category, article type, colour and usage as one multi-label; an
            attribute of more than half of the products (usage Casual: 78 %) is left out, because with it 72 % of all
            pairs would be relevant, and without it 25 % are.
        relevance: see `CrossModalDataModule`; `attributes` needs `label`.
        image_encoder: see `Benchmark`; default EfficientNet-Lite0 at 96 pixels, because the photos have 60 x 80, and on
            whole photos, because a product fills its frame.
    """

    name = "fashion"
    recipes = PROTOCOLS["fashion"]
    forms: ClassVar[Forms] = {"original": ("styles.csv", "*.jpg")}
    origin = "Kaggle paramaggarwal/fashion-product-images-small (or the large one)"

    def __init__(
        self,
        labels: Literal["hierarchy", "attributes"] = "hierarchy",
        relevance: Rule = "finest",
        image_encoder: ImageEncoder | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(relevance=relevance, image_encoder=image_encoder or TimmImage(size=96, fit="squash"), **kwargs)
        self.labels = labels

    def original(self) -> Release | None:
        """`styles.csv` in its column layout; every photo is a row of `image`, whichever products are kept."""
        files = Files(self.root)
        table = files.find("styles.csv")
        if table is None:
            return None
        rows = csv_rows(files.text(table), str(table.path))
        if not rows or not set(COLUMNS) <= set(rows[0]) or rows[0][-1] != "productDisplayName":
            raise UserError(f"{table.path} has the columns {rows[:1]}, not those of the release: {', '.join(COLUMNS)}.")
        header, body = rows[0], [row for row in rows[1:] if row]
        if short := [k for k, row in enumerate(body, 2) if len(row) < len(header)]:
            raise UserError(f"{table.path} is damaged: line {short[0]} has too few columns. Download it again.")
        width = len(header) - 1  # commas of a title are not quoted everywhere
        products = [dict(zip(header, [*row[:width], ",".join(row[width:])], strict=True)) for row in body]
        photos = Photos(files, [f"{product['id']}.jpg" for product in products], self.max_corrupt)
        titles = [product["productDisplayName"].strip() for product in products]
        if self.labels == "attributes":
            label, names = _columns(products, ATTRIBUTES)
            rare = label.mean(0) <= EVERYWHERE
            notes = {"left_out_labels": [name for name, kept in zip(names, rare, strict=True) if not kept]}
            names = tuple(name for name, kept in zip(names, rare, strict=True) if kept)
            return Release("original", photos, titles, label[:, rare], names, notes=notes)
        label, names = _columns(products, LAYERS)
        classes = [[product[layer] for product in products] for layer in LAYERS]
        hierarchy = np.stack([np.unique(each, return_inverse=True)[1] for each in classes], 1)
        release = Release("original", photos, titles, label, names, hierarchy=hierarchy)
        return strict_tree(release)


def strict_tree(release: Release) -> Release:
    """The products on the main path of their article type, of article types with enough of them; classes renumbered."""
    hierarchy = release.hierarchy
    if hierarchy is None:
        raise UserError("the products have no layers.")
    paths = Counter(map(tuple, hierarchy.tolist()))
    main: dict[int, tuple[int, ...]] = {}
    for path, _ in sorted(paths.items(), key=lambda item: (-item[1], item[0])):
        main.setdefault(path[-1], path)
    common = {path for path in main.values() if paths[path] >= COMMON}
    kept = np.array([row for row, path in enumerate(map(tuple, hierarchy.tolist())) if path in common], np.int64)
    if not len(kept):
        raise UserError(
            f"no article type has {COMMON} products: is styles.csv the whole table? Or say --data.labels attributes."
        )
    release = release.take(
        kept, left_out_off_tree_or_rare=len(hierarchy) - len(kept), tree="main path of each article type"
    )
    chosen = hierarchy[kept]
    renumbered = np.stack([np.unique(column, return_inverse=True)[1] for column in chosen.T], 1)
    if off_tree(renumbered)[1]:
        raise UserError(
            "the classes are not a tree although each article type has one path: a sub-category has several parents."
        )
    used = [bool(column.any()) for column in release.label.T]
    names = tuple(name for name, use in zip(release.label_names, used, strict=True) if use)
    return replace(release, hierarchy=renumbered, label=release.label[:, used], label_names=names)


def _columns(products: list[dict[str, str]], layers: tuple[str, ...]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Multi-hot over the values of some columns; an empty cell is no label."""
    names = [
        f"{layer}:{value}" for layer in layers for value in sorted({product[layer] for product in products} - {""})
    ]
    return indicator([[f"{layer}:{product[layer]}" for layer in layers] for product in products], names), tuple(names)
