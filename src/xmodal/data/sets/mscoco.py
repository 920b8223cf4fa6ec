"""MS-COCO (Lin et al., ECCV 2014): photos with five captions and instances of 80 categories, 2014 or 2017."""

from collections import defaultdict
from typing import Any, ClassVar, Literal

import numpy as np

from xmodal.data.readers.files import Files, Forms, Photos
from xmodal.data.readers.release import Release
from xmodal.data.sets.benchmark import Benchmark
from xmodal.data.sets.captions import ROLES, captioned, karpathy, the_one
from xmodal.data.sets.protocols import PROTOCOLS
from xmodal.errors import UserError
from xmodal.relevance import Rule


class MSCOCO(Benchmark):
    """Photos, captions and 80 categories from COCO's JSON files, or one of the dialects.

    Args:
        captions: of the original release: `first`: one pair per photo with its first caption, photos without an
            instance left out (122,218 in 2017); `all`: one pair per caption, ranked by R@K, with Karpathy's lists where
            `dataset_coco.json` is there.
        relevance: see `CrossModalDataModule`; default: `group` under protocol `karpathy`, else `label`.
    """

    name = "mscoco"
    recipes = PROTOCOLS["mscoco"]
    num_classes = 80
    forms: ClassVar[Forms] = {
        "original": ("captions_*.json", "instances_*.json", "*.jpg"),
        "dchmt, mith": ("index.mat", "caption.mat", "label.mat", "*.jpg"),
        "torchcmh": ("imgList.mat", "tagList.mat", "labelList.mat"),
    }
    origin = (
        "cocodataset.org (annotations and photos of train and val, 2014 or 2017); dataset_coco.json from Karpathy and "
        "Fei-Fei, CVPR 2015"
    )

    def __init__(
        self,
        captions: Literal["first", "all"] = "first",
        relevance: Rule | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(relevance=relevance or "label", **kwargs)
        self.captions = captions
        if relevance is None and self.protocol == "karpathy":  # its photos are their own queries' database
            self.relevance = "group"

    def original(self) -> Release | None:
        """COCO's JSON files; photos of several files are joined in the order of their names."""
        files = Files(self.root)
        parts = {kind: self._load(files, kind) for kind in ("captions", "instances")}
        if not parts["captions"] or not (parts["instances"] or self.captions == "all"):
            return None
        photos_of = {kind: {number for part in found for number, _ in part["images"]} for kind, found in parts.items()}
        if self.captions == "first" and (alone := photos_of["captions"] ^ photos_of["instances"]):
            raise UserError(
                f"{self.root}: {len(alone)} photos are in files of one kind only, captions_*.json or instances_*.json: "
                "add what is missing, such as instances_train2014.json beside captions_train2014.json."
            )
        names: dict[int, str] = {}
        every: dict[int, dict[tuple[str, str], None]] = defaultdict(dict)  # a folder and its zip may hold one caption
        for part in parts["captions"]:
            names |= dict(part["images"])
            for image, mark in part["annotations"]:
                every[image][mark] = None
        texts = {image: [caption for _, caption in marks] for image, marks in every.items()}
        ids = [number for number in sorted(names) if number in texts]
        if self.captions == "all":
            sentences = [texts[number] for number in ids]
            rows = np.repeat(np.arange(len(ids)), [len(each) for each in sentences])
            photos = Photos(files, [names[number] for number in ids], self.max_corrupt)
            return captioned(photos, sentences, rows, self._karpathy(files, [names[number] for number in ids]))
        categories = {number: name for part in parts["instances"] for number, name in part["categories"]}
        column = {number: k for k, number in enumerate(sorted(categories))}
        row = {number: k for k, number in enumerate(ids)}
        label = np.zeros((len(ids), len(column)), np.uint8)
        for part in parts["instances"]:
            for image, category in part["annotations"]:
                if category not in column:
                    raise UserError(f"{self.root}: an instance of image {image} has the unknown category {category}.")
                if image in row:
                    label[row[image], column[category]] = 1
        kept = np.flatnonzero(label.any(1))
        photos = Photos(files, [names[ids[k]] for k in kept], self.max_corrupt)
        notes = {"left_out_without_label": len(ids) - len(kept), "caption": "the first of several"}
        return Release(
            "original",
            photos,
            [texts[ids[k]][0] for k in kept],
            label[kept],
            tuple(categories[number] for number in sorted(categories)),
            notes=notes,
        )

    def _load(self, files: Files, kind: Literal["captions", "instances"]) -> list[dict[str, list[tuple[int, Any]]]]:
        """By file: names of images and of categories by id, and numbered captions or categories by their image's id."""
        entries = [entry for entry in files.entries(".json") if entry.name.rpartition("/")[2].startswith(f"{kind}_")]
        parts = []
        for entry in entries:
            try:
                part = files.json(entry)
                marks = list(part["annotations"])
                if kind == "captions":
                    of_images: list[tuple[int, Any]] = [
                        (int(mark["image_id"]), (str(mark.get("id", k)), mark["caption"].strip()))
                        for k, mark in enumerate(marks)
                    ]
                else:
                    of_images = [(int(mark["image_id"]), int(mark["category_id"])) for mark in marks]
                images = [(int(image["id"]), str(image["file_name"])) for image in part["images"]]
                categories = [(int(each["id"]), str(each["name"])) for each in part.get("categories", ())]
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
                raise UserError(f"{entry.path} is damaged ({error!r}): download it again.") from error
            parts.append({"images": images, "annotations": of_images, "categories": categories})
        return parts

    def _karpathy(self, files: Files, names: list[str]) -> dict[str, list[int]]:
        entry = the_one(files, files.entries("dataset_coco.json"))
        if entry is None:
            return {}
        row = {name: k for k, name in enumerate(names)}
        listed, splits, _ = karpathy(files, entry)
        if unknown := [name for name in listed if name not in row]:
            raise UserError(
                f"{entry.path} lists {len(unknown)} photos without captions, such as {unknown[0]}: its photos are "
                "those of captions_train2014.json and captions_val2014.json; or move it away."
            )
        return {role: [row[name] for name, each in zip(listed, splits, strict=True) if each == role] for role in ROLES}
