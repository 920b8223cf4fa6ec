"""`xmodal datasets`: every dataset, what of it lies here, its protocols and their sizes."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xmodal import paths
from xmodal.errors import UserError


def main(argv: Sequence[str]) -> int:
    """`xmodal datasets [NAME]`: one line per dataset, or everything about one.

    Raises:
        UserError: no such dataset.
    """
    parser = argparse.ArgumentParser(prog="xmodal datasets", description=main.__doc__)
    parser.add_argument("name", nargs="?", help="of one dataset")
    options = parser.parse_args(list(argv))
    known = modules()
    if options.name:
        sys.stdout.write(about(module_of(options.name)))
        return 0
    for name, module in known.items():
        protocols = ", ".join(getattr(module, "recipes", {})) or "its own, see its arguments"
        sys.stdout.write(f"{name:16} {state(paths.data(name)):24} protocols: {protocols}\n")
    sys.stdout.write("`xmodal datasets NAME` says which files are expected, and where they come from.\n")
    return 0


def modules() -> dict[str, Any]:
    """The data modules by the name of their dataset."""
    from xmodal import data

    found = (getattr(data, each) for each in data.__all__)
    named = {module.name: module for module in found if isinstance(getattr(module, "name", None), str)}
    return dict(sorted(named.items()))


def module_of(name: str) -> Any:  # noqa: ANN401 - a data module's class
    """The data module of a dataset.

    Raises:
        UserError: there is none of that name.
    """
    known = modules()
    if name not in known:
        raise UserError(f"no dataset {name!r}; the datasets are: {', '.join(known)}.")
    return known[name]


def state(root: Path) -> str:
    """What lies in a dataset's folder: nothing, files, or files with features."""
    if not root.is_dir():
        return "not here"
    features = sum(path.is_dir() and not path.name.startswith(".") for path in (root / "features").glob("*"))
    return f"here, {features} feature caches" if features else "here, not encoded"


def about(module: Any) -> str:  # noqa: ANN401 - a data module's class
    """Where a dataset is looked for, what is expected there and where it comes from, and its protocols."""
    root = paths.data(module.name)
    lines = [(module.__doc__ or "").partition("\n")[0], f"folder: {root} ({state(root)})"]
    if hasattr(module, "recipes"):
        lines += [f"expected: {module.expected}", f"from: {module.origin}", "protocols, the default first:"]
        lines += [f"  {name:16} {recipe.words}" for name, recipe in module.recipes.items()]
    return "\n".join(lines) + "\n"
