"""What a run leaves: `config.yaml` (replays it) and `result.json` (what came out, and out of what)."""

import contextlib
import json
import os
import platform
import re
import resource
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal.code import code_of, provenance
from xmodal.errors import UserError
from xmodal.files import text_hash, write_atomically
from xmodal.safe_yaml import parse_leaves

if TYPE_CHECKING:  # torch takes seconds, and a table of records does not need it
    import torch

PER_RUN = ("seed_everything", "variant", "group", "job_type", "save_codes", "gallery")  # differ between runs of a setup
TUNED = re.compile(
    r"# Written by `(?P<command>xmodal sweep [^`]+)`, study (?P<study>\S+)\.\n"
    r"# Trial (?P<trial>\d+), val/map (?P<value>[01]\.\d{6}) on the validation pairs; trials: (?P<trials>[^.\n]+)\.\n"
    r"# Commit (?P<commit>[0-9a-f]{7,40}|None)"
    r"(?P<dirty> with uncommitted changes \(diff (?P<diff>unknown|[0-9a-f]{16})\))?"
    r"(?:; by hand: (?P<by_hand>[^.\n]+))?\.\n"
    r"(?P<own>(?:# Of one's own: \S+ \([0-9a-f]+\)\.\n)*)"
    r"(?:# Content (?P<content>[0-9a-f]{16})\.\n)?"
)  # the header of a tuned file; what a person added says so
# How variables begin by which libraries compute otherwise.
ARITHMETIC = ("MKL_", "ONEDNN_", "OPENBLAS_", "NPY_", "GLIBC_TUNABLES", "NVIDIA_TF32", "TORCH_ALLOW_TF32")


def machine(device: "torch.device") -> dict[str, Any]:
    """The device's name, what computes on its host, and the peak memory so far, in bytes.

    `threads`, `vectors` (the instructions that torch chose: DEFAULT, AVX2, AVX512, ...), `blas` and `variables` of the
    environment change the last bit of a sum, and so does the processor itself, by which MKL chooses.
    """
    import torch

    blas = re.search(r"BLAS_INFO=(\w+)", torch.__config__.show())
    host = {
        "threads": torch.get_num_threads(),
        "vectors": torch.backends.cpu.get_cpu_capability(),
        "blas": blas[1] if blas else "unknown",
        "variables": {name: os.environ[name] for name in sorted(os.environ) if name.startswith(ARITHMETIC)},
    }
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        return {"device": torch.cuda.get_device_name(device), **host, "peak_memory": peak}
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 1024)
    return {"device": _cpu(), **host, "peak_memory": peak}


def forget_peak() -> None:
    """Count the peak memory that `machine` reads from here on, where the system allows it."""
    import torch

    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # Linux only
        Path("/proc/self/clear_refs").write_text("5")


def run_name(variant: str, seed: int) -> str:
    """The name of a run's folder, among those of its method, dataset and size."""
    return f"seed{seed}" if variant == "base" else f"{variant}-seed{seed}"


def is_evaluated(record: Mapping[str, Any]) -> bool:
    """Whether a record is a result: not of a trial, a smoke run, or the second evaluation of a checkpoint."""
    return "test/map" in record["metrics"] and record["job_type"] not in ("smoke", "test")


def is_of(record: Mapping[str, Any], configuration: str, code: Mapping[str, str]) -> bool:
    """Whether a record is of a configuration and of the files of one's own (`own_code`) that are here.

    A run that `xmodal train` has made is found as well: it names no group and no job, and may have left more.

    Args:
        record: of a run.
        configuration: the whole one, as text.
        code: files of one's own.
    """
    found = [configuration]
    for key, value in (("group", "null"), ("job_type", "train"), ("save_codes", "true"), ("gallery", "true")):
        found += [re.sub(rf"(?m)^{key}: .*$", f"{key}: {value}", each) for each in found]
    return record["config_hash"] in map(text_hash, found) and record.get("own_code", {}) == code


def write_result(folder: Path, result: Mapping[str, Any]) -> Path:
    """Write `result.json` into a run's folder and return its path."""
    path = folder / "result.json"
    write_atomically(path, json.dumps(result, indent=2) + "\n")
    return path


def renewed(record: dict[str, Any], trials: int | None) -> dict[str, Any]:
    """A record that is used again, which says in how many trials its values are searched by now."""
    if record.get("trials") != trials:
        path = Path(record.pop("path"))
        record |= {"trials": trials}
        record["path"] = str(write_result(path.parent, record))
    return record


def read_results(folder: Path) -> Iterator[dict[str, Any]]:
    """Every record under a folder, sorted by path.

    Raises:
        UserError: a record is damaged.
    """
    return (read_result(path) for path in sorted(folder.rglob("result.json")))


def read_result(path: Path) -> dict[str, Any]:
    """One record, with its own path under `path`.

    Raises:
        UserError: it is damaged, or may not be read.
    """
    try:
        return {**json.loads(path.read_text()), "path": str(path)}
    except PermissionError as error:
        raise UserError(f"the record {path} may not be read: {error.strerror}.") from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise UserError(f"the record {path} is damaged ({error}): delete its folder and run again.") from error


def read_settings(folder: Path) -> dict[str, str]:
    """The leaves of a run's `config.yaml` as text, by dotted key; empty where the file is missing or damaged."""
    try:
        return parse_leaves((folder / "config.yaml").read_text(), str(folder))
    except (OSError, ValueError, UserError):
        return {}


def leaves(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """The leaves of a configuration as text, by dotted key."""
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)


def computed_by(records: Iterable[Mapping[str, Any]], key: str) -> str:
    """What is recorded of the machines, such as `device`, of all processes that trained or evaluated some runs."""
    processes = (each for record in records for each in (*record.get("earlier", ()), record))
    return " and ".join(sorted({str(each.get(key, "not recorded")) for each in processes}))


def mixed_sources(records: Iterable[Mapping[str, Any]]) -> str:
    """A sentence on what differs: versions, inputs of those that answered the same, code of a setup's runs; or none."""
    found: dict[str, set[str]] = {}
    for record in records:
        own = f"{record.get('group')} {record.get('variant')} (setup {record.get('setup_hash')})"
        split, labels = str(record.get("split_hash"))[:8], record.get("relevance_hash")
        rivals = f"{record.get('dataset')} (split {split}, labels {labels})"
        for each in (*record.get("earlier", ()), record):
            said = dict(each.get("versions") or {})  # older records have none
            if "inputs_hash" in each:
                said |= dict.fromkeys((f"inputs of {own}", f"inputs of {rivals}"), each["inputs_hash"])
            if "commit" in each and "setup_hash" in record:
                said |= {f"code of {own}": code_of(each)}
            for name, number in said.items():
                found.setdefault(name, set()).add(str(number))
    mixed = [f"{name} {' and '.join(sorted(numbers))}" for name, numbers in found.items() if len(numbers) > 1]
    return f"Not all by the same versions or inputs: {', '.join(mixed)}." if mixed else ""


def tuned_text(
    body: str,
    command: str,
    study: str,
    trial: int,
    value: float,
    counts: Mapping[str, int],
    source: Mapping[str, Any] | None = None,
) -> str:
    """A file as a sweep writes it: what was searched, how and from which code (`TUNED` reads it), and the settings.

    `source` is the code that ran the trial, which may be older than the one that writes the file; default: this one.
    """
    source = source or provenance()
    dirty = f" with uncommitted changes (diff {source['diff']})" if source["dirty"] else ""
    trials = ", ".join(f"{count} {state}" for state, count in counts.items())
    own = "".join(f"# Of one's own: {name} ({code}).\n" for name, code in source.get("own_code", {}).items())
    return (
        f"# Written by `{command}`, study {study}.\n"
        f"# Trial {trial}, val/map {value:.6f} on the validation pairs; trials: {trials}.\n"
        f"# Commit {source['commit']}{dirty}.\n"
        f"{own}# Content {text_hash(body)}.\n{body}"
    )


def header(tuned: Path) -> re.Match[str] | None:
    """What the header of a tuned file says, by the names of `TUNED`; None where it has none."""
    return TUNED.match(tuned.read_text("utf-8"))


def searched(tuned: Path) -> int | None:
    """In how many finished trials a sweep has searched the values of a file; None where no header says so."""
    found = header(tuned)
    return sum(int(count) for count in re.findall(r"(\d+) (?:complete|pruned)", found["trials"])) if found else None


def is_edited(tuned: Path) -> bool:
    """Whether a tuned file holds other settings than the sweep wrote; files of older versions do not say."""
    found = header(tuned)
    return found is not None and found["content"] not in (None, text_hash(found.string[found.end() :]))


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()
