"""Which code runs: commit, what was not committed, versions of packages, and files of one's own."""

import ast
import contextlib
import json
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

from xmodal.errors import UserError
from xmodal.files import text_hash

PACKAGES = (
    *("xmodal", "torch", "lightning", "torchmetrics", "optuna", "wandb"),
    *("timm", "open_clip_torch", "torch-geometric", "numpy", "numba"),
)
IMPORTED: dict[Any, str] = {}  # hashes of the code of classes of one's own, as it was imported
WRITTEN = ("experiments/*/tuned/*", "results", "docs/results*.md", "docs/pictures", "README.md")  # by commands
CODE = (":(top)", *(f":(top,exclude){path}" for path in WRITTEN))


@cache
def provenance() -> Mapping[str, Any]:
    """Commit, and whether and what was not committed, of the code that runs, versions, and the platform; asked once.

    What commands write (tuned files, whose content is in the configuration's hash, tables) is no change of the code.
    An installed package may lie within the repository of somebody else: then pip says which commit it is of, if any.
    """
    ours = bool(_git("ls-files", "--", "."))
    status = _git("status", "--porcelain", "--untracked-files=all", "--", *CODE) if ours else None
    changes = [status, _git("diff", "HEAD", "--", *CODE), *map(_source, _untracked())] if status else []
    return {
        "commit": _git("rev-parse", "HEAD") if ours else _installed(),
        "dirty": None if status is None else bool(status),
        "diff": text_hash("\n".join(map(str, changes))) if changes else None,
        "versions": {"python": platform.python_version(), **{package: version(package) for package in PACKAGES}},
        "platform": platform.platform(),
    }


def own_code(*classes: type) -> dict[str, str]:
    """A hash of the code of each class of one's own, by its full name: neither a commit nor a version names it.

    It is that of the class's file and of those that this imports, and they in turn, from its folder or its own package,
    as they were when the hash was first asked for: a process and its forks run what was imported, whatever lies there.
    """
    foreign = [each for each in classes if each.__module__.partition(".")[0] not in PACKAGES]
    IMPORTED.update({each: _hash(each.__module__) for each in foreign if each not in IMPORTED})
    return {f"{each.__module__}.{each.__qualname__}": found for each in foreign if (found := IMPORTED[each])}


def check_imported(devices: int) -> None:
    """Refuse code of one's own that was edited, where processes would import it anew: those of several devices.

    Raises:
        UserError: it was.
    """
    for found, was in IMPORTED.items():
        if devices > 1 and _hash(found.__module__) != was:
            raise UserError(f"{found.__module__} was edited since the command began: restore it, to go on.")


def code_of(source: Mapping[str, Any]) -> str:
    """The commit of a record or a trial; after a `+` the hash of what was not committed."""
    return f"{source.get('commit')}"[:10] + "+" * bool(source.get("dirty")) + f"{source.get('diff') or ''}"[:6]


def _untracked() -> list[Path]:
    """Python files that git does not know, in order; other files may be pictures without end."""
    top = Path(_git("rev-parse", "--show-toplevel") or "/")
    names = _git("ls-files", "--others", "--exclude-standard", "--full-name", "-z", "--", *CODE) or ""
    return [top / name for name in sorted(names.split("\0")) if name.endswith(".py")]


def _installed() -> str | None:
    """The commit that pip has installed the package from, as PEP 610 has it; None for a wheel."""
    said = json.loads(distribution("xmodal").read_text("direct_url.json") or "{}")
    return said.get("vcs_info", {}).get("commit_id")  # type: ignore[no-any-return]


def _hash(module: str) -> str:
    """Of a module's code, as it lies there; empty where it has none."""
    texts = [_source(file) for file in _files(module)]
    return text_hash("\0".join(texts)) if texts else ""


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
