"""`xmodal evaluate FILE [FILE...]`: every retrieval metric of codes or embeddings that anybody made.

`xmodal.data.readers.codes` says which files and which arrays in them. Codes are ranked by Hamming distance, embeddings
by cosine.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from xmodal import arguments
from xmodal.batch import SIDES
from xmodal.data.readers.codes import SPLITS, read_codes
from xmodal.errors import UserError
from xmodal.metrics import bootstrap_interval, paired_test, retrieval_metrics
from xmodal.metrics.base import CrossModalRetrieval
from xmodal.relevance import Relevance

Array = NDArray[Any]


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one file.

    Attributes:
        file: its name.
        kind: whether it holds codes or embeddings.
        taken: as what its numbers were read, in words.
        metrics: value by key.
        conventions: words by key.
        precisions: AP of each query in the default convention, by direction, in the order of the file.
        named: whether the file says which pairs of their dataset these are.
        query: what the queries are judged by, from which two files are known to have the same ones.
        database: the same of what is searched.
    """

    file: Path
    kind: Literal["binary", "real"]
    taken: str
    metrics: dict[str, float]
    conventions: dict[str, str]
    precisions: dict[str, Tensor]
    named: bool
    query: Relevance
    database: Relevance

    def record(self) -> dict[str, Any]:
        """What `--json` prints of the file."""
        intervals = {f"map_{d}": list(bootstrap_interval(ap)[1:]) for d, ap in self.precisions.items()}
        return {
            "file": str(self.file),
            "kind": self.kind,
            "taken": self.taken,
            **self.metrics,
            "confidence95": intervals,
            "conventions": self.conventions,
        }


def main(argv: list[str]) -> int:
    """Run the command; a file that cannot be used is a `UserError`."""
    options = arguments.parser("evaluate").parse_args(argv)
    evaluations = [evaluate_file(file) for file in options.files]
    tests = [_compare(evaluations[0], other) for other in evaluations[1:]]
    if options.json:
        records = [evaluation.record() for evaluation in evaluations]
        print(json.dumps(records[0] if len(records) == 1 else {"files": records, "paired_tests": tests}, indent=2))
    else:
        print("\n\n".join([*map(_table, evaluations), *map(_sentence, tests)]))
    return 0


def evaluate_file(file: Path) -> Evaluation:
    """Every metric of one file.

    Raises:
        UserError: the file is missing, damaged, incomplete or inconsistent.
    """
    codes = read_codes(file)
    labels = _classes(codes.query_label, codes.database_label)
    metrics, judged = retrieval_metrics(codes.kind), []
    for split, label in zip(SPLITS, labels, strict=True):
        outputs = {side: torch.from_numpy(_single(codes.outputs[f"{split}_{side}"])) for side in SIDES}
        judged.append(Relevance.of({"label": label, **codes.columns[split]}))
        metrics.update(split=split, **outputs, **judged[-1].columns())
    values = {key: float(value) for key, value in metrics.compute().items()}
    retrieval = cast("CrossModalRetrieval", metrics["retrieval"])
    query, database = judged
    place = query.index.argsort().argsort()  # of the file's queries in the metric's order, the dataset's
    precisions = {d: ap[place] if len(ap) == len(place) else ap for d, ap in retrieval.average_precisions.items()}
    return Evaluation(
        file, codes.kind, codes.taken, values, retrieval.conventions, precisions, codes.named, query, database
    )


def _single(outputs: Array) -> Array:
    """Codes as they are, embeddings in single precision at least."""
    return outputs if outputs.dtype == bool else outputs.astype(np.promote_types(outputs.dtype, np.float32))


def _classes(query: Array, database: Array) -> tuple[Array, Array]:
    """Multi-hot labels of both splits, or (N,) class numbers where every pair has exactly one label."""
    if query.ndim == 1 or not all((label.sum(1) == 1).all() for label in (query, database)):
        return query, database
    return query.argmax(1), database.argmax(1)


def _compare(first: Evaluation, other: Evaluation) -> dict[str, Any]:
    """The paired randomisation test of two files with the same queries."""
    if not np.array_equal(_queries(first), _queries(other)):
        raise UserError(f"{first.file} and {other.file} cannot be compared: their query labels differ")
    if first.named and other.named and not torch.equal(first.query.index, other.query.index):
        raise UserError(f"{first.file} and {other.file} cannot be compared: their query_index names other pairs")
    if _answers(first) != _answers(other):
        raise UserError(f"{first.file} and {other.file} cannot be compared: other items are relevant to their queries")
    tests = {
        f"map_{d}": paired_test(ap, other.precisions[d])._asdict()
        for d, ap in first.precisions.items()
        if d in other.precisions and len(ap) == len(other.precisions[d])
    }
    return {"files": [str(first.file), str(other.file)], **tests}


def _queries(evaluation: Evaluation) -> Array:
    """By what two files are known to have the same queries: their labels, class numbers in order of appearance."""
    label = evaluation.query.label.numpy()
    if label.ndim > 1:
        return label
    _, first, numbers = np.unique(label, return_index=True, return_inverse=True)
    return first[numbers]


def _answers(evaluation: Evaluation) -> tuple[int, list[int]]:
    """How many items are searched, and how many of them are relevant to each query, whatever their order."""
    query, database = evaluation.query, evaluation.database
    parts = torch.split(torch.arange(len(query.index)), 256)
    return len(database.index), torch.cat([query.at(rows).relevant(database).sum(1) for rows in parts]).tolist()


def _table(evaluation: Evaluation) -> str:
    intervals = {f"map_{d}": bootstrap_interval(ap) for d, ap in evaluation.precisions.items()}
    lines = [f"{evaluation.file} ({evaluation.taken})"]
    for key, value in evaluation.metrics.items():
        interval = intervals.get(key)
        sure = f"; 95% interval {interval.low:.4f} to {interval.high:.4f}" if interval else ""
        lines.append(f"{key:<28} {value:>10.6f}  {evaluation.conventions[key]}{sure}")
    return "\n".join(lines)


def _sentence(test: Mapping[str, Any]) -> str:
    first, other = test["files"]
    lines = [f"{first} minus {other}: paired randomisation test over queries"]
    for key in sorted(test.keys() - {"files"}):
        part = test[key]
        lines.append(
            f"{key:<28} {part['difference']:>+10.6f}  95% interval {part['low']:+.4f} to {part['high']:+.4f}, "
            f"p = {part['p_value']:.4f}"
        )
    return "\n".join(lines)
