"""Runs that differ in their seed only, and how sure their differences are: what every table and page is made from.

Two runs are compared only where they answered the same queries over the same database under the same relevance
(one *protocol*), and tables rank them within one kind and size (one *contest*).
"""

import io
import math
import statistics
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xmodal.errors import UserError
from xmodal.files import below
from xmodal.records.record import is_evaluated, read_result, read_settings, run_name
from xmodal.significance import Interval, SeededTest, bootstrap_intervals, seeded_tests

Record = dict[str, Any]
Floats = NDArray[np.float64]
MEASURES = {"map": "both", "map_i2t": "i2t", "map_t2i": "t2i"}  # under `test/` in a record; "both" is their mean
PLAIN = ("base", "tuned", "tuned-edited")  # whole methods, and so is `tuned-at-64`; other variants are ablations
QUERIES = ("dataset", "relevance", "split_hash", "relevance_hash")  # which of them were answered, and what is right
DATA = (*QUERIES, "training_hash")  # what a run has learnt from as well
UNSAID = "not recorded"  # of older records
KEYS = ("method", "kind", "size", "seed", "variant", "job_type", *QUERIES, "setup_hash")
FIELDS: dict[str, type] = {  # what setups are made by, and what a row shows
    **dict.fromkeys((*KEYS, *DATA), str),
    **dict.fromkeys(("size", "seed"), int),
    **dict.fromkeys(("metrics", "split_sizes"), dict),
    "device": str,
}
NEEDED = {"test/map_i2t", "test/map_t2i", "test/random_i2t", "test/random_t2i"}  # beside `test/map`
SHARES = {"test/map", "val/map", "test/map_i2i", "test/map_t2t", *NEEDED}  # from 0 to 1, and spread over seeds
UNREADABLE = (  # what damaged or foreign arrays raise
    *(OSError, ValueError, TypeError, KeyError, EOFError, NotImplementedError, MemoryError),
    *(zipfile.BadZipFile, zlib.error),
)


class Spread(NamedTuple):
    """Mean over seeds, and standard deviation where there are several."""

    mean: float
    deviation: float | None

    def __str__(self) -> str:
        return f"{self.mean:.4f}" if self.deviation is None else f"{self.mean:.4f} +- {self.deviation:.4f}"


@dataclass(eq=False)
class Setup:
    """Runs of one setup, by seed.

    Args:
        records: of the runs, in the order of their seeds; equal but for the seed and what came out.
    """

    records: tuple[Record, ...]
    method: str = field(init=False)
    kind: str = field(init=False)
    size: int = field(init=False)
    variant: str = field(init=False)
    dataset: str = field(init=False)
    relevance: str = field(init=False)
    split_hash: str = field(init=False)
    relevance_hash: str = field(init=False)
    setup_hash: str = field(init=False)

    def __post_init__(self) -> None:
        for each in fields(self)[1:]:
            setattr(self, each.name, self.records[0].get(each.name))

    @property
    def protocol(self) -> tuple[str, str, str, str]:
        """Dataset, relevance, split and labels: runs of one protocol answered the same queries."""
        return self.dataset, self.relevance, self.split_hash, self.relevance_hash

    @property
    def contest(self) -> tuple[str, str, str, str, str, int]:
        """The protocol, kind and size of the outputs within which setups are ranked."""
        return *self.protocol, self.kind, self.output_size

    @property
    def output_size(self) -> int:
        """Bits or dimensions that leave the encoder; older records say only what was asked for."""
        return int(self.records[0].get("output_size", self.size))

    @property
    def sized(self) -> str:
        """The size in words: what was asked for, and what leaves the encoder where that differs."""
        more = f" ({self.output_size} out)" if self.output_size != self.size else ""
        return f"{self.size} {self.unit}{more}"

    @property
    def unit(self) -> str:
        """`bits` of a code, `dim` of an embedding."""
        return "bits" if self.kind == "binary" else "dim"

    @property
    def score(self) -> float:
        """Mean of `test/map` over the seeds: what setups are ranked by."""
        return statistics.fmean(record["metrics"]["test/map"] for record in self.records)

    def spread(self, metric: str) -> Spread | None:
        """Mean and deviation of a metric over the seeds, such as `test/map_i2t`; None if a run lacks it."""
        values = [record["metrics"].get(metric) for record in self.records]
        if None in values:
            return None
        mean, more = statistics.fmean(values), len(values) - 1
        return Spread(mean, math.dist(values, [mean] * len(values)) / math.sqrt(more) if more else None)

    @cached_property
    def settings(self) -> dict[str, str]:
        """What the runs share of their configuration, from the first one's `config.yaml`."""
        return read_settings(Path(self.records[0]["path"]).parent)

    @cached_property
    def queries(self) -> Floats | None:
        """(S, Q, 3) AP of every seed and query for each of `MEASURES`; None where a run kept none, or no sound ones."""
        found = [
            read_arrays(Path(record["path"]).with_name("evaluation.npz"), "query_index", "ap_i2t", "ap_t2i")
            for record in self.records
        ]
        first = found[0]
        if first is None or any(each is None or not np.array_equal(each[0], first[0]) for each in found):
            return None
        i2t, t2i = (np.stack([each[side] for each in found if each is not None]) for side in (1, 2))
        if min(i2t.min(), t2i.min()) < 0 or max(i2t.max(), t2i.max()) > 1:
            return None
        return np.stack([(i2t + t2i) / 2, i2t, t2i], 2)


def other_data(record: Mapping[str, Any], here: Mapping[str, Any]) -> str | None:
    """In what a run is of other data than are `here` (as a data module describes them), a key; older runs lack some."""
    return next((key for key in DATA if record.get(key, here[key]) != here[key]), None)


def is_plain(variant: str) -> bool:
    """Whether a variant is the whole method: as it is, tuned, or with the values tuned at another size."""
    return variant in PLAIN or variant.startswith("tuned-at-")


def collect(folder: Path) -> tuple[list[Record], list[str]]:
    """The records of all runs evaluated on their query set, sorted by path; and why others could not be read.

    Trials, smoke runs and the second evaluation of a checkpoint by `xmodal test` are no results and left out.
    """
    records, broken = list[Record](), list[str]()
    for path in below(folder, "result.json", broken):
        try:
            record = _complete(read_result(path))
        except UserError as error:
            broken.append(str(error))
        else:
            if is_evaluated(record):
                records.append(record)
    return _once(_of_their_data(records), broken), broken


def _once(records: Sequence[Record], left_out: list[str]) -> list[Record]:
    """Each run once: a folder that was copied is not a second seed. Of copies the one in a run's own place counts."""

    def place(record: Record) -> tuple[bool, bool, int]:
        folder = Path(record["path"]).parent
        named = folder.name == run_name(record["variant"], record["seed"])
        return not named, folder.parts[-4:-2] != (record["method"], record["dataset"]), len(folder.parts)

    kept: dict[tuple[Any, ...], Record] = {}
    for record in sorted(records, key=place):
        first = kept.setdefault((*_setup(record), record["seed"]), record)
        if first is not record:
            left_out.append(f"the record {record['path']} is of the run of {first['path']}, with the same seed")
    return sorted(kept.values(), key=lambda record: Path(record["path"]))


def _setup(record: Record) -> tuple[Any, ...]:
    """What the runs of a setup have in common; files of one's own are named by their content."""
    kept = (record[key] for key in KEYS if key not in ("seed", "job_type"))
    return *kept, record.get("training_hash", UNSAID), str(record.get("own_code") or "")


def _of_their_data(records: Sequence[Record]) -> list[Record]:
    """Older records, which do not say what their labels were, as of those of the others of their split."""
    found = list(records)
    for key in ("relevance_hash", "training_hash"):
        before, known = DATA[: DATA.index(key)], defaultdict[tuple[Any, ...], set[str]](set)
        for record in found:
            known[tuple(record[each] for each in before)] |= {record[key]} - {UNSAID}
        for number, record in enumerate(found):
            hashes = known[tuple(record[each] for each in before)]
            if record[key] == UNSAID and len(hashes) == 1:
                found[number] = record | {key: next(iter(hashes))}
    return found


def by_setup(records: Iterable[Record]) -> list[Setup]:
    """The records as setups, by dataset, protocol, kind, size and falling mAP."""
    setups: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        setups[_setup(record)].append(record)
    found = [Setup(tuple(sorted(each, key=lambda record: record["seed"]))) for each in setups.values()]
    return sorted(found, key=lambda each: (each.contest, -each.score, each.method, each.variant))


def intervals(setups: Sequence[Setup]) -> list[dict[str, Interval] | None]:
    """95 % bootstrap interval over the queries of the seeds' mean; None for a setup without per-query values."""
    found: list[dict[str, Interval] | None] = [None] * len(setups)
    means = {place: each.queries.mean(0) for place, each in enumerate(setups) if each.queries is not None}
    for size in {len(each) for each in means.values()}:  # setups of as many queries share the resamples
        places = [place for place, each in means.items() if len(each) == size]
        rows = bootstrap_intervals(np.concatenate([means[place] for place in places], 1))
        for number, place in enumerate(places):
            found[place] = dict(zip(MEASURES, rows[3 * number : 3 * number + 3], strict=True))
    return found


def differences(pairs: Sequence[tuple[Setup, Setup]]) -> list[dict[str, SeededTest] | None]:
    """Test of first minus second over seeds and queries, for each of `MEASURES`.

    None where no test is possible: the protocols differ, or per-query values are missing.
    """
    return [
        dict(zip(MEASURES, seeded_tests(first.queries, second.queries), strict=True))
        if first.protocol == second.protocol and first.queries is not None and second.queries is not None
        else None
        for first, second in pairs
    ]


def _complete(record: Record) -> Record:
    """The record, if everything that tables and the page are made from is there and is a number where it is one."""
    older: Record = {"seconds": 0, "commit": None, "dirty": None, "wandb_id": None, **dict.fromkeys(DATA[-2:], UNSAID)}
    record = older | record  # or of foreign hands

    def check(key: str, value: Any, *, sound: bool) -> None:  # noqa: ANN401 - what a file holds
        if not sound:
            raise UserError(f"the record {record['path']} has {key}: {ascii(value)[:40]}: run again.")

    for key, kind in FIELDS.items():
        check(key, record.get(key), sound=isinstance(record.get(key), kind))
        check(key, record[key], sound=kind is not str or _is_word(record[key]))
    check("commit", record["commit"], sound=record["commit"] is None or _is_word(record["commit"]))
    record.setdefault("output_size", record["size"])
    for key, low in (("size", 1), ("output_size", 1), ("seed", 0), ("seconds", 0)):
        check(key, record[key], sound=_lies(record[key], low, 2**32))
    metrics = record["metrics"]
    for key, value in [*metrics.items(), *record["split_sizes"].items()]:
        if not (_lies(value, 0, 1) if key in SHARES else _lies(value)):  # asked of a hundred numbers a record
            check(key, value, sound=False)
    if "test/map" in metrics and (lacking := sorted(NEEDED - metrics.keys())):
        raise UserError(f"the record {record['path']} lacks {', '.join(lacking)}: run again.")
    return record


def _is_word(value: Any) -> bool:  # noqa: ANN401 - what a file holds
    return isinstance(value, str) and value.isprintable() and value != ""


def _lies(value: Any, low: float = -1e300, high: float = 1e300) -> bool:  # noqa: ANN401 - what a file holds
    """Whether it is a number between two others."""
    return type(value) in (int, float) and low <= value <= high


def read_arrays(path: Path, *names: str, columns: tuple[int, ...] = ()) -> list[Floats] | None:
    """(N, *columns) numbers of a run's `evaluation.npz`, two rows at least; None if one is missing, damaged or none."""
    try:
        with zipfile.ZipFile(path) as kept:
            found = [_numbers(kept.read(f"{name}.npy")) for name in names]
    except UNREADABLE:
        return None
    shape = (len(found[0]), *columns) if found and found[0].ndim else ()
    sound = len(found) == len(names) and shape[:1] > (1,) and all(each.shape == shape for each in found)
    return found if sound and all(np.isfinite(each).all() for each in found) else None


def _numbers(data: bytes) -> Floats:
    """The content of a `.npy` file of version 1.0, which numpy writes; reading many of one form takes half the time."""
    end = 10 + int.from_bytes(data[8:10], "little")
    shape, by_columns, kind = _form(data[:end])
    if kind.hasobject:
        raise ValueError("objects are not read")
    return np.ndarray(shape, kind, data, end, order="F" if by_columns else "C").astype(np.float64)


@lru_cache(64)
def _form(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and type that a `.npy` file states."""
    if np.lib.format.read_magic(file := io.BytesIO(header)) != (1, 0):
        raise ValueError("another version")
    return np.lib.format.read_array_header_1_0(file)
