"""Files of codes or embeddings that anybody made: six arrays by our names or by those of public hashing code.

`query_image`, `query_text`, `database_image`, `database_text`, `query_label` and `database_label`, or `q_img`, `q_txt`,
`r_img`, `r_txt`, `q_l` and `r_l`, in any file of arrays. Codes are +-1 or 0/1 of any type, or packed bytes; other
floating point numbers are embeddings. Rows are items; where that cannot be, columns are. A file of `--save_codes` also
says what is relevant: `query_index`, `query_hierarchy`, `query_group`, and the same of the database.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from xmodal.data.readers.arrays import Array, finite, listed
from xmodal.errors import UserError

NAMES = {
    "query_image": "q_img",
    "query_text": "q_txt",
    "database_image": "r_img",
    "database_text": "r_txt",
    "query_label": "q_l",
    "database_label": "r_l",
}
OUTPUTS, LABELS = tuple(NAMES)[:4], tuple(NAMES)[4:]
SPLITS = ("query", "database")
_SHOWN = 20  # a longer list of values is not worth counting
_PLAIN = 0.9  # share of 0 and 1 from which bytes are codes with a wrong value, and not packed


@dataclass(frozen=True)
class Codes:
    """What a file holds.

    Attributes:
        kind: `binary` for codes, `real` for embeddings.
        taken: the same in words: bytes may be packed codes, or embeddings in whole numbers, and nothing tells surely.
        outputs: by name (N, bits) bool, or (N, D) float.
        query_label: (Q, C) bool, or (Q,) class numbers.
        database_label: (R, C) bool, or (R,) class numbers, counted with the queries'.
        columns: by split, what else the file says of its pairs under the names of `Relevance`, and always `index`.
            Where it gives none, two sets of equal arrays are the same pairs, and others are different ones.
        named: whether the file gives the index.
    """

    kind: Literal["binary", "real"]
    taken: str
    outputs: dict[str, Array]
    query_label: Array
    database_label: Array
    columns: dict[str, dict[str, Array]]
    named: bool


def read_codes(file: Path) -> Codes:
    """The arrays of a file, checked.

    Raises:
        UserError: the file is missing, damaged, incomplete or inconsistent.
    """
    if not file.is_file():
        raise UserError(f"{file}: no such file")
    every = listed(file)
    found = {variable.key.rpartition(".")[2]: variable for variable in every}
    for names in ({name, other} for name, other in NAMES.items()):
        if len(several := [v.shown for v in every if v.key.rpartition(".")[2] in names]) > 1:
            raise UserError(f"{file}: which of {' and '.join(several)} is meant cannot be told: keep one")
    variables = {name: found.get(name, found.get(other)) for name, other in NAMES.items()}
    if missing := [f"{name} (or {NAMES[name]})" for name, variable in variables.items() if variable is None]:
        held = ", ".join(sorted(variable.shown for variable in found.values())) or "nothing"
        raise UserError(f"{file}: lacks {', '.join(missing)}; it holds {held}")
    arrays = {name: _numbers(variable.read(), f"{file}: {name}") for name, variable in variables.items() if variable}
    arrays = _rows_first(arrays, file)
    query_label, database_label = _labels(arrays["query_label"], arrays["database_label"], file)
    width = arrays["query_image"].shape[1]
    kind, outputs = _outputs({name: arrays[name] for name in OUTPUTS}, file)
    labels = {"query_label": query_label, "database_label": database_label}
    sizes = {split: len(labels[f"{split}_label"]) for split in SPLITS}
    columns = {
        split: {
            name: _column(found[f"{split}_{name}"].read(), sizes[split], f"{file}: {split}_{name}")
            for name in ("index", "hierarchy", "group")
            if f"{split}_{name}" in found
        }
        for split in SPLITS
    }
    if columns["query"].keys() != columns["database"].keys():
        raise UserError(f"{file}: index, hierarchy and group belong to both query and database, or to none")
    layers = [each["hierarchy"] for each in columns.values() if "hierarchy" in each]
    sound = all(each.ndim == 2 and each.size and each.min() >= 0 for each in layers)
    if not sound or len({each.shape[1] for each in layers}) > 1:
        shapes = " and ".join(str(each.shape) for each in layers)
        raise UserError(f"{file}: hierarchy must hold class numbers from 0, pairs x layers, in both: {shapes}")
    same = all(
        np.array_equal(every[f"query_{name}"], every[f"database_{name}"])
        for every, names in ((outputs, ("image", "text")), (labels, ("label",)))
        for name in names
    )
    named = "index" in columns["query"]
    for split, start in (("query", 0), ("database", 0 if same else sizes["query"])):
        index = columns[split].setdefault("index", np.arange(start, start + sizes[split]))
        if len(np.unique(index)) < len(index):
            raise UserError(f"{file}: {split}_index names a pair twice")
    size = outputs["query_image"].shape[1]
    packed = ", packed in bytes; embeddings are given as floating point numbers" if size != width else ""
    taken = f"codes of {size} bits{packed}; Hamming distance" if kind == "binary" else f"embeddings of {size}, cosine"
    return Codes(kind, taken, outputs, query_label, database_label, columns, named)


def _column(array: Array, rows: int, what: str) -> Array:
    """Whole numbers of the pairs: (N,), or (N, layers)."""
    numbers = array.ravel() if array.size == max(array.shape, default=0) and not what.endswith("hierarchy") else array
    if numbers.dtype.kind not in "iu" or not numbers.ndim or len(numbers) != rows:
        raise UserError(f"{what} must hold whole numbers of {rows} pairs, got {array.dtype} {array.shape}")
    return numbers.astype(np.int64)


def _numbers(array: Array, what: str) -> Array:
    if array.dtype.kind not in "biuf":
        raise UserError(f"{what} must hold numbers, got {'text or cells' if array.dtype == object else array.dtype}")
    if not array.ndim or not array.size:
        raise UserError(f"{what} is empty")
    return finite(array, what)


def _rows_first(arrays: Mapping[str, Array], file: Path) -> dict[str, Array]:
    """Items along the first axis: as the file has them, else the one way of transposing in which all belong together.

    Raises:
        UserError: nothing fits, or labels and outputs could both be meant otherwise.
    """
    given = [arrays[name] for name in LABELS]
    vectors = all(array.size == max(array.shape) for array in given)  # class numbers, or one row of labels
    forms = ([array.ravel() for array in given], given) if vectors else (given, [array.T for array in given])
    ways = [
        {
            **{name: arrays[name].T if turned else arrays[name] for name in OUTPUTS},
            **dict(zip(LABELS, form, strict=True)),
        }
        for turned in (False, True)
        for form in forms
    ]
    fits = [_belong_together(way) for way in ways]
    if not fits[0] and sum(fits) > 1 and not vectors:
        raise UserError(f"{file}: which axis counts the items cannot be told from {_shapes(arrays)}: put it first")
    if not any(fits):
        for name in OUTPUTS:
            split = name.partition("_")[0]
            same = len({array.shape[1:] for key, array in arrays.items() if key in OUTPUTS}) == 1
            if same and arrays[name].ndim == 2 and len(arrays[name]) != len(arrays[f"{split}_label"]):
                raise UserError(
                    f"{file}: {name} has {len(arrays[name])} rows, {split}_label {len(arrays[f'{split}_label'])}"
                )
        raise UserError(f"{file}: codes must be matrices of one width with a label a row, got {_shapes(arrays)}")
    return ways[fits.index(True)]


def _belong_together(arrays: Mapping[str, Array]) -> bool:
    """Whether the outputs are matrices of one width, and every split has as many rows in its three arrays."""
    outputs = [arrays[name] for name in OUTPUTS]
    return (
        all(array.ndim == 2 for array in outputs)
        and len({array.shape[1] for array in outputs}) == 1
        and len({array.shape[1:] for array in (arrays[name] for name in LABELS)}) == 1
        and all(len({len(array) for name, array in arrays.items() if name.startswith(split)}) == 1 for split in SPLITS)
    )


def _shapes(arrays: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {array.shape}" for name, array in arrays.items())


def _labels(query: Array, database: Array, file: Path) -> tuple[Array, Array]:
    """Multi-hot labels of both splits as bool, or class numbers from 0."""
    if query.ndim == 1:
        both = [array if array.dtype.kind == "f" else array.astype(object) for array in (query, database)]
        if len({array.dtype for array in (query, database)}) == 1:
            both = [query, database]  # else numpy makes floats of large numbers of two types
        numbers: NDArray[Any] = np.unique(np.concatenate(both), return_inverse=True)[1]
        return numbers[: len(query)], numbers[len(query) :]
    for name, array in (("query_label", query), ("database_label", database)):
        if array.ndim != 2 or not ((array == 0) | (array == 1)).all():
            raise UserError(f"{file}: {name} must be multi-hot (0/1) or one class number a row")
        if not array.any():
            raise UserError(f"{file}: {name} holds no label at all")
    return query == 1, database == 1


def _outputs(arrays: Mapping[str, Array], file: Path) -> tuple[Literal["binary", "real"], dict[str, Array]]:
    every = list(arrays.values())
    for low in (-1, 0):
        if all(((array == low) | (array == 1)).all() for array in every):
            return "binary", {name: array == 1 for name, array in arrays.items()}
    if _packed(every):
        octets = {name: np.ascontiguousarray(array).view(np.uint8) for name, array in arrays.items()}
        return "binary", {name: np.unpackbits(array, 1) == 1 for name, array in octets.items()}
    for name, array in arrays.items():
        if array.dtype.kind != "f" or (array == np.round(array)).all():
            values = np.unique(array)
            listing = ", ".join(f"{value + 0.0:g}" for value in values[:_SHOWN])
            raise UserError(
                f"{file}: codes must be +-1 or 0/1 in all four arrays, {name} ({array.dtype}) holds "
                f"{listing}{', ...' if len(values) > _SHOWN else ''}"
            )
    return "real", dict(arrays)


def _packed(arrays: list[Array]) -> bool:
    """Whether whole numbers are packed bits: unsigned ones, or signed bytes, that are more than 0, 1 and -1."""
    fits = all(array.dtype.kind == "u" for array in arrays) or all(array.dtype == np.int8 for array in arrays)
    plain = sum(int(np.isin(array, (-1, 0, 1)).sum()) for array in arrays) if fits else 0
    return fits and plain < _PLAIN * sum(array.size for array in arrays)
