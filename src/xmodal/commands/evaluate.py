"""`xmodal evaluate FILE [FILE...]`: every retrieval metric of codes or embeddings that anybody made.

A file (.npz or .mat) holds `query_image`, `query_text`, `database_image`, `database_text`, `query_label` and
`database_label`, or the names that public hashing code exports (`q_img`, `q_txt`, `r_img`, `r_txt`, `q_l`, `r_l`).
Codes are +-1 or 0/1 of any type, or packed bytes; anything else in floating point is an embedding, ranked by cosine.
"""

import argparse
import json
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import h5py
import numpy as np
import scipy.io
import torch
from numpy.typing import NDArray
from scipy.io.matlab import MatReadError
from torch import Tensor

from xmodal.metrics import bootstrap_interval, paired_test, retrieval_metrics
from xmodal.metrics.base import CrossModalRetrieval

NAMES = {
    "query_image": "q_img",
    "query_text": "q_txt",
    "database_image": "r_img",
    "database_text": "r_txt",
    "query_label": "q_l",
    "database_label": "r_l",
}
_OUTPUTS = tuple(NAMES)[:4]
_SHOWN = 20  # a longer list of values is not worth counting

Array = NDArray[Any]


class UnusableFileError(Exception):
    """A file that cannot be evaluated, with the reason in one line."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one file.

    Attributes:
        file: its name.
        kind: whether it holds codes or embeddings.
        metrics: value by key.
        conventions: words by key.
        precisions: AP of each query in the default convention, by direction.
        query_label: (Q, C) labels, by which two files are known to have the same queries.
    """

    file: Path
    kind: Literal["binary", "real"]
    metrics: dict[str, float]
    conventions: dict[str, str]
    precisions: dict[str, Tensor]
    query_label: Tensor

    def record(self) -> dict[str, Any]:
        """What `--json` prints of the file."""
        intervals = {f"map_{d}": list(bootstrap_interval(ap)[1:]) for d, ap in self.precisions.items()}
        return {
            "file": str(self.file),
            "kind": self.kind,
            **self.metrics,
            "confidence95": intervals,
            "conventions": self.conventions,
        }


def main(argv: list[str]) -> int:
    """Run the command; returns the exit code, 2 for a file that cannot be used."""
    parser = argparse.ArgumentParser(
        prog="xmodal evaluate",
        description="Every retrieval metric, with its convention, of codes or embeddings in files.",
    )
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help=".npz or .mat; two are compared as well")
    parser.add_argument("--json", action="store_true", help="print JSON, numbers at full precision")
    arguments = parser.parse_args(argv)
    try:
        evaluations = [evaluate_file(file) for file in arguments.files]
        tests = [_compare(evaluations[0], other) for other in evaluations[1:]]
    except UnusableFileError as error:
        print(f"xmodal evaluate: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        records = [evaluation.record() for evaluation in evaluations]
        print(json.dumps(records[0] if len(records) == 1 else {"files": records, "paired_tests": tests}, indent=2))
    else:
        print("\n\n".join([*map(_table, evaluations), *map(_sentence, tests)]))
    return 0


def evaluate_file(file: Path) -> Evaluation:
    """Every metric of one file.

    Raises:
        UnusableFileError: the file is missing, unreadable, incomplete or inconsistent.
    """
    arrays = _named(_read(file), file)
    query_label, database_label = _labels(arrays["query_label"], arrays["database_label"], file)
    labels = {"query": query_label, "database": database_label}
    kind, outputs = _outputs({name: arrays[name] for name in _OUTPUTS}, file)
    for name, output in outputs.items():
        split = name.partition("_")[0]
        if len(output) != len(labels[split]):
            raise UnusableFileError(f"{file}: {name} has {len(output)} rows, {split}_label {len(labels[split])}")
    metrics = retrieval_metrics(kind)
    for split, label in labels.items():
        metrics.update(
            split=split,
            image=outputs[f"{split}_image"],
            text=outputs[f"{split}_text"],
            label=label,
            index=torch.arange(len(label)),
        )
    values = {key: float(value) for key, value in metrics.compute().items()}
    retrieval = cast("CrossModalRetrieval", metrics["retrieval"])
    return Evaluation(file, kind, values, retrieval.conventions, retrieval.average_precisions, query_label)


def _read(file: Path) -> dict[str, Array]:
    if not file.is_file():
        raise UnusableFileError(f"{file}: no such file")
    try:
        if file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        if file.suffix == ".mat" and h5py.is_hdf5(file):  # MATLAB 7.3 stores matrices transposed
            with h5py.File(file) as archive:
                return {name: np.asarray(item).T for name, item in archive.items() if isinstance(item, h5py.Dataset)}
        if file.suffix == ".mat":
            return {name: np.asarray(item) for name, item in scipy.io.loadmat(file).items() if name[:2] != "__"}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, MatReadError) as error:
        raise UnusableFileError(f"{file}: cannot be read: {str(error).partition(chr(10))[0]}") from error
    raise UnusableFileError(f"{file}: expected a .npz or .mat file")


def _named(found: Mapping[str, Array], file: Path) -> dict[str, Array]:
    """The six arrays under our names."""
    arrays = {name: found.get(name, found.get(other)) for name, other in NAMES.items()}
    missing = [f"{name} (or {NAMES[name]})" for name, array in arrays.items() if array is None]
    if missing:
        raise UnusableFileError(f"{file}: lacks {', '.join(missing)}; it holds {', '.join(sorted(found)) or 'nothing'}")
    named = {name: array for name, array in arrays.items() if array is not None}
    for name, array in named.items():
        if array.dtype.kind not in "biuf":
            raise UnusableFileError(f"{file}: {name} must hold numbers, got type {array.dtype}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise UnusableFileError(f"{file}: {name} holds NaN or infinite values")
        if not len(array.shape) or not array.size:
            raise UnusableFileError(f"{file}: {name} is empty")
    return named


def _labels(query: Array, database: Array, file: Path) -> tuple[Tensor, Tensor]:
    """Multi-hot labels of both splits, which may be given as class numbers."""
    both = (query, database)
    if all(array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1) for array in both):
        classes, numbers = np.unique(np.concatenate([array.ravel() for array in both]), return_inverse=True)
        one_hot = torch.from_numpy(np.eye(len(classes), dtype=bool)[numbers])
        return one_hot[: query.size], one_hot[query.size :]
    if any(array.ndim != 2 for array in both) or query.shape[1] != database.shape[1]:
        raise UnusableFileError(f"{file}: query_label has shape {query.shape}, database_label {database.shape}")
    for name, array in (("query_label", query), ("database_label", database)):
        if not ((array == 0) | (array == 1)).all():
            raise UnusableFileError(f"{file}: {name} must be multi-hot (0/1) or one class number a row")
        if not array.any():
            raise UnusableFileError(f"{file}: {name} holds no label at all")
    return torch.from_numpy(query == 1), torch.from_numpy(database == 1)


def _outputs(arrays: Mapping[str, Array], file: Path) -> tuple[Literal["binary", "real"], dict[str, Tensor]]:
    """Codes as booleans, or embeddings."""
    shapes = ", ".join(f"{name} {array.shape}" for name, array in arrays.items())
    if any(array.ndim != 2 for array in arrays.values()) or len({array.shape[1] for array in arrays.values()}) > 1:
        raise UnusableFileError(f"{file}: codes must be matrices of one width, got {shapes}")
    every = list(arrays.values())
    if all(array.dtype.kind == "u" for array in every) and any((array > 1).any() for array in every):
        octets = {name: np.ascontiguousarray(array).view(np.uint8) for name, array in arrays.items()}
        return "binary", {name: torch.from_numpy(np.unpackbits(array, 1) == 1) for name, array in octets.items()}
    for low in (-1, 0):
        if all(((array == low) | (array == 1)).all() for array in every):
            return "binary", {name: torch.from_numpy(array == 1) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.kind != "f" or (array == np.round(array)).all():
            values = np.unique(array)
            listed = ", ".join(f"{value + 0.0:g}" for value in values[:_SHOWN]) + (
                ", ..." if len(values) > _SHOWN else ""
            )
            raise UnusableFileError(
                f"{file}: codes must be +-1 or 0/1 in all four arrays, {name} ({array.dtype}) holds {listed}"
            )
    return "real", {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}


def _compare(first: Evaluation, other: Evaluation) -> dict[str, Any]:
    """The paired randomisation test of two files with the same queries."""
    if not torch.equal(first.query_label, other.query_label):
        raise UnusableFileError(f"{first.file} and {other.file} cannot be compared: their query labels differ")
    tests = {f"map_{d}": paired_test(ap, other.precisions[d])._asdict() for d, ap in first.precisions.items()}
    return {"files": [str(first.file), str(other.file)], **tests}


def _table(evaluation: Evaluation) -> str:
    intervals = {f"map_{d}": bootstrap_interval(ap) for d, ap in evaluation.precisions.items()}
    ranked = "codes, Hamming distance" if evaluation.kind == "binary" else "embeddings, cosine"
    lines = [f"{evaluation.file} ({ranked})"]
    for key, value in evaluation.metrics.items():
        interval = intervals.get(key)
        sure = f"; 95% interval {interval.low:.4f} to {interval.high:.4f}" if interval else ""
        lines.append(f"{key:<28} {value:>10.6f}  {evaluation.conventions[key]}{sure}")
    return "\n".join(lines)


def _sentence(test: Mapping[str, Any]) -> str:
    first, other = test["files"]
    lines = [f"{first} minus {other}: paired randomisation test over queries"]
    for key in ("map_i2t", "map_t2i"):
        part = test[key]
        lines.append(
            f"{key:<28} {part['difference']:>+10.6f}  95% interval {part['low']:+.4f} to {part['high']:+.4f}, "
            f"p = {part['p_value']:.4f}"
        )
    return "\n".join(lines)
