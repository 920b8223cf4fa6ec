"""The dialects in circulation: the same datasets as .mat, HDF5 or numpy files, told apart by their keys."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xmodal.data.readers.arrays import Array, Variable, finite, pairs_axis, pairs_first, variables
from xmodal.data.readers.files import Files, Photos, Pixels
from xmodal.data.readers.release import Release, multi_hot
from xmodal.errors import UserError


@dataclass(frozen=True)
class Dialect:
    """Keys of one form of the files.

    Args:
        users: whose code reads it.
        parts: by role (`all`, or `train`, `val`, `test`) the keys of image, text and label; `a|b` are spellings of one.
        paths: the image key holds names of pictures instead of pictures or features.
    """

    users: str
    parts: Mapping[str, tuple[str, str, str]]
    paths: bool = False
    optional: tuple[str, ...] = ("val",)


DIALECTS = {
    "dcmh": Dialect("DCMH, SSAH, AGAH, GCH, CPAH", {"all": ("images", "YAll", "LAll")}),
    "djsrh": Dialect("DJSRH, JDSH, UCCH", {"all": ("IAll", "YAll", "LAll")}),
    "djsrh-vgg": Dialect("UCCH (VGG features)", {"all": ("XAll", "YAll", "LAll")}),
    "torchcmh": Dialect("torchcmh (MIRFLICKR-25K)", {"all": ("FAll", "YAll", "LAll")}),
    "torchcmh-tags": Dialect("torchcmh (NUS-WIDE, MS-COCO)", {"all": ("imgs", "tags", "labels")}),
    "dadh": Dialect("DADH; arrays of your own", {"all": ("image", "text", "label")}),
    "dchmt": Dialect("DCHMT, QinLab", {"all": ("index", "caption", "category")}, paths=True),
    "mith": Dialect("MITH", {"all": ("index", "caption", "label")}, paths=True),
    "hichnet": Dialect("HiCHNet, SHDCH", {"all": ("Image", "Tag", "Label")}),
    "hichnet-2": Dialect("HiCHNet (second loader)", {"all": ("img", "tags", "label")}),
    "torch-vgg": Dialect("TORCH (FashionVC, Ssense)", {"all": ("Image_vgg", "Tag", "Label")}),
    "torch": Dialect("TORCH (Food-71)", {"all": ("image_vgg|image_alexnet", "ingredient", "label")}),
    "dscmr": Dialect(
        "DSCMR",
        {
            "train": ("train_img", "train_txt", "train_img_lab"),
            "val": ("val_img", "val_txt", "val_img_lab"),
            "test": ("test_img", "test_txt", "test_img_lab"),
        },
    ),
    "wikidata": Dialect("MTFH, TFNH", {"train": ("I_tr", "T_tr", "L_tr"), "test": ("I_te", "T_te", "L_te")}),
    "ucch-iapr": Dialect(
        "UCCH (IAPR TC-12)",
        {"train": ("VDatabase", "YDatabase", "databaseL"), "test": ("VTest", "YTest", "testL")},
    ),
    "mrl": Dialect(
        "MRL",
        {
            role: (f"{role_key}_imgs_deep", f"{role_key}_text|{role_key}_texts", f"{role_key}_imgs_labels")
            for role, role_key in (("train", "train"), ("val", "valid"), ("test", "test"))
        },
    ),
    "clip4cmr": Dialect(
        "CLIP4CMR",
        {
            role: (f"clip_{key}.image", f"clip_{key}.text", f"clip_{key}.label")
            for role, key in (("train", "train"), ("val", "val"), ("test", "test"))
        },
    ),
}


def detect(root: Path, match: str = "") -> tuple[list[str], dict[str, Variable]]:
    """The dialects whose keys are all there, and every array of the folder by key."""
    there = variables(root, match)
    fits = [
        name
        for name, dialect in DIALECTS.items()
        if all(
            _key(spelling, there)
            for role, keys in dialect.parts.items()
            if role not in dialect.optional
            for spelling in keys
        )
    ]
    return fits, there


def read(
    root: Path,
    name: str,
    there: Mapping[str, Variable],
    label_names: tuple[str, ...] | None,
    num_labels: int | None,
    max_corrupt: int,
) -> Release:
    """A dataset in one of the dialects.

    Args:
        root: its folder, where the pictures lie too when the dialect only names them.
        name: of the dialect.
        there: every array of the folder, from `detect`.
        label_names: C names, where the dataset fixes their order.
        num_labels: C, where the dataset fixes it.
        max_corrupt: so many pictures may be missing or corrupt.

    Raises:
        UserError: the arrays do not belong together, or hold no labels.
    """
    dialect = DIALECTS[name]
    parts: dict[str, tuple[Array, Array, Array]] = {}
    for role, keys in dialect.parts.items():
        found = [_key(spelling, there) for spelling in keys]
        if None not in found:
            parts[role] = _part([there[key] for key in found if key], paths=dialect.paths)
    image, text, label = (_joined([part[side] for part in parts.values()]) for side in range(3))
    labels = multi_hot(label, f"{root} ({name}, {dialect.parts[next(iter(parts))][2]})", num_labels)
    notes: dict[str, object] = {}
    texts: Array | list[str] = text
    if text.dtype == object:
        several = sum(not isinstance(cell, str) for cell in text)
        if several:
            notes["caption"] = f"the first of several, for {several} pairs"
        texts = [cell if isinstance(cell, str) else cell[0] for cell in text]
    images: Array | Photos | Pixels = image
    if dialect.paths:
        images = Photos(Files(root), [str(cell) for cell in image], max_corrupt)
    elif image.ndim == 4:
        images = Pixels(image, f"{name} images")
    elif image.ndim != 2:
        raise UserError(f"the images of {root} ({name}) have shape {image.shape}: give features N x D or pictures.")
    bounds = np.cumsum([0, *(len(part[2]) for part in parts.values())])
    roles = {role: np.arange(bounds[k], bounds[k + 1]) for k, role in enumerate(parts)} if "all" not in parts else {}
    names = label_names or tuple(f"label{number}" for number in range(1, labels.shape[1] + 1))
    return Release(name, images, texts, labels, names, roles=roles, notes=notes)


def wanted(there: Mapping[str, Variable]) -> str:
    """For an error: what is there, and which dialects lack which keys."""
    have = ", ".join(str(variable) for variable in there.values()) or "no array file"
    lacking = []
    for name, dialect in DIALECTS.items():
        keys = [key for role, part in dialect.parts.items() if role not in dialect.optional for key in part]
        missing = [key for key in keys if not _key(key, there)]
        if len(missing) < len(keys):
            lacking.append(f"{name} ({dialect.users}) lacks {', '.join(missing)}")
    return f"Found there: {have}." + (f" By these keys: {'; '.join(lacking)}." if lacking else "")


def _part(found: list[Variable], *, paths: bool) -> tuple[Array, Array, Array]:
    image, text, label = (variable.read() for variable in found)
    if paths and image.dtype != object:
        raise UserError(f"{found[0]} holds no file names.")
    label = label.ravel() if label.ndim == 2 and 1 in label.shape else label  # class numbers (N, 1) or (1, N)
    pairs = pairs_axis(dict(zip(map(str, found), (image, text, label), strict=True)))
    image, text, label = (pairs_first(array, pairs) for array in (image, text, label))
    for variable, array in zip(found, (image, text), strict=False):
        if array.dtype != object and array.ndim < 4:  # pictures have a check of their own
            finite(array, str(variable))
    return image, text, label


def _joined(arrays: list[Any]) -> Array:
    if len({array.shape[1:] for array in arrays}) > 1:
        raise UserError(f"the parts do not fit together: shapes {', '.join(str(array.shape) for array in arrays)}.")
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def _key(spelling: str, there: Mapping[str, Variable]) -> str | None:
    return next((key for key in spelling.split("|") if key in there), None)
