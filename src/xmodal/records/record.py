"""What a run leaves: `config.yaml` (replays it) and `result.json` (what came out, and out of what)."""

import ast
import contextlib
import hashlib
import json
import os
import platform
import re
import resource
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import distribution, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal.errors import UserError
from xmodal.files import write_atomically
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
PACKAGES = (
    *("xmodal", "torch", "lightning", "torchmetrics", "optuna", "wandb"),
    *("timm", "open_clip_torch", "torch-geometric", "numpy", "numba"),
)
# How variables begin by which libraries compute otherwise.
ARITHMETIC = ("MKL_", "ONEDNN_", "OPENBLAS_", "NPY_", "GLIBC_TUNABLES", "NVIDIA_TF32", "TORCH_ALLOW_TF32")


def config_hash(config: str) -> str:
    """First 16 hex digits of the SHA-256 of a resolved configuration."""
    return hashlib.sha256(config.encode()).hexdigest()[:16]


WRITTEN = ("experiments/*/tuned/*", "results", "docs/results*.md", "docs/pictures", "README.md")  # by commands
CODE = (":(top)", *(f":(top,exclude){path}" for path in WRITTEN))


@cache
def provenance() -> Mapping[str, Any]:
    """Commit, and whether and what was not committed, of the code that runs, versions, and the platform; asked once.

    What commands write (tuned files, whose content is in the configuration's hash, tables) is no change of the code.
    An installed package may lie within the repository of somebody else: then pip says which commit it is of, if any.
    """
    ours = bool(_git("ls-files", "--", Path(__file__).name))
    status = _git("status", "--porcelain", "--untracked-files=all", "--", *CODE) if ours else None
    changes = [status, _git("diff", "HEAD", "--", *CODE), *map(_source, _untracked())] if status else []
    return {
        "commit": _git("rev-parse", "HEAD") if ours else _installed(),
        "dirty": None if status is None else bool(status),
        "diff": config_hash("\n".join(map(str, changes))) if changes else None,
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "platform": platform.platform(),
    }


def own_code(*classes: type) -> dict[str, str]:
    """A hash of the code of each class of one's own, by its full name: neither a commit nor a version names it.

    It is that of the class's file and of those that this imports, and they in turn, from its folder or its own package.
    """
    foreign = [each for each in classes if each.__module__.partition(".")[0] not in PACKAGES]
    found = {
        f"{each.__module__}.{each.__qualname__}": [_source(file) for file in _files(each.__module__)]
        for each in foreign
    }
    return {name: config_hash("\0".join(texts)) for name, texts in found.items() if texts}


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
    """Whether a record is of a configuration, by its hash, and of the files of one's own (`own_code`) that are here."""
    return bool(record["config_hash"] == configuration and record.get("own_code", {}) == code)


def write_result(folder: Path, result: Mapping[str, Any]) -> Path:
    """Write `result.json` into a run's folder and return its path."""
    path = folder / "result.json"
    write_atomically(path, json.dumps(result, indent=2) + "\n")
    return path


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


def code_of(source: Mapping[str, Any]) -> str:
    """The commit of a record or a trial; after a `+` the hash of what was not committed."""
    return f"{source.get('commit')}"[:10] + "+" * bool(source.get("dirty")) + f"{source.get('diff') or ''}"[:6]


def mixed_versions(records: Iterable[Mapping[str, Any]]) -> str:
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
        f"{own}# Content {config_hash(body)}.\n{body}"
    )


def searched(tuned: Path) -> int | None:
    """In how many finished trials a sweep has searched the values of a file; None where no header says so."""
    found = TUNED.match(tuned.read_text("utf-8"))
    return sum(int(count) for count in re.findall(r"(\d+) (?:complete|pruned)", found["trials"])) if found else None


def is_edited(tuned: Path) -> bool:
    """Whether a tuned file holds other settings than the sweep wrote; files of older versions do not say."""
    text = tuned.read_text("utf-8")
    found = TUNED.match(text)
    return found is not None and found["content"] not in (None, config_hash(text[found.end() :]))


def _untracked() -> list[Path]:
    """Python files that git does not know, in order; other files may be pictures without end."""
    top = Path(_git("rev-parse", "--show-toplevel") or "/")
    names = _git("ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", *CODE) or ""
    return [top / name for name in sorted(names.split("\0")) if name.endswith(".py")]


def _installed() -> str | None:
    """The commit that pip has installed the package from, as PEP 610 has it; None for a wheel."""
    said = json.loads(distribution("xmodal").read_text("direct_url.json") or "{}")
    return said.get("vcs_info", {}).get("commit_id")  # type: ignore[no-any-return]


def _files(module: str) -> list[Path]:
    """A module's file, and those beside it that it imports; read, since what this process has imported is chance.

    Of an installed package only the file itself, because all others lie beside it.
    """
    name = getattr(sys.modules[module], "__file__", None)
    if name is None:
        return []  # of a notebook
    first = Path(name)
    root = first.parents[module.count(".") + (first.stem == "__init__")]
    found = {first: None}
    if str(root) not in map(sysconfig.get_path, ("purelib", "platlib")):
        for file in (waiting := [first]):
            new = {each: None for each in _imported(file, root) if each not in found}
            found |= new
            waiting += new
    return [first, *sorted(found.keys() - {first})]


def _imported(file: Path, root: Path) -> Iterator[Path]:
    """The files that a file imports from folders between its own and the root of its package."""
    folders = [each for each in file.parents if each.is_relative_to(root)]
    with contextlib.suppress(SyntaxError, ValueError):  # nobody has imported that one
        for node in ast.walk(ast.parse(_source(file))):
            names = [each.name for each in node.names] if isinstance(node, ast.Import | ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{each}" for each in names)]
            for name in (each for each in names if each.partition(".")[0] != __name__.partition(".")[0]):
                places = [folder.joinpath(*name.split(".")) for folder in folders]
                candidates = [
                    path for place in places for path in (place.with_name(f"{place.name}.py"), place / "__init__.py")
                ]
                yield from filter(Path.is_file, candidates)


def _source(file: Path) -> str:
    return file.read_text(errors="replace") if file.is_file() else ""


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None  # not a checkout
    return done.stdout.strip()


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.is_file()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()
