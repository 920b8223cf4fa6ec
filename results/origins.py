"""Writes docs/methods/origins.md: what is the paper's, what the release's, what ours: `python results/origins.py`.

The one source for each method is the first table of its page, whose last column says where a part comes from. A test
checks that the page is up to date, that every term of a loss has a row, and that every place in the code is there.
"""

import re
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import NamedTuple

from xmodal import layers, losses, methods, optimizers

PAGES = Path(__file__).parents[1] / "docs" / "methods"
PAGE = PAGES / "origins.md"
KINDS = {  # the first that a clause of an origin has; a clause that only names a method or authors is of a relative
    "paper": r"\bpapers?\b",
    "release": r"\breleases?\b|\bcode\b|\bport\b",
    "relative": r"^relatives?\b|^as? [A-Z]|^[A-Z]|^random projection|^zero-shot",
    "ours": r"\bours\b|\breconstruction\b|^identity",
}
ORDER = ("ours", "relative", "paper", "release")
HEADS = ("origin", "source", "tag")


class Part(NamedTuple):
    """A row of a method's table."""

    what: str
    where: str
    origin: str

    def kinds(self) -> list[str]:
        """Of whom it is, clause by clause."""
        clauses = re.split(r"; |, (?=relative)", self.origin)
        found = {kind for each in clauses for kind in [k for k in ORDER if re.search(KINDS[k], each)][:1]}
        return [kind for kind in KINDS if kind in found]


def parts(method: str) -> list[Part]:
    """The rows of a method's page; a cell that is left empty repeats the one above."""
    lines = (PAGES / f"{method}.md").read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|"))
    head = [cell.lower() for cell in _cells(lines[start])]
    if head[-1] not in HEADS or "where" not in head:
        raise ValueError(f"{method}.md: the first table has the columns {head}, and no origin at its end")
    where, found = head.index("where"), list[Part]()
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = _cells(line)
        what = ": ".join(cell for cell in cells[:where] if cell)
        what += "".join(f" {cell}" for cell in cells[where + 1 : -1])
        found.append(Part(what, cells[where] or found[-1].where, cells[-1]))
    return found


def page() -> str:
    """The page, from the methods' pages as they are."""
    text = [
        "# What is of whom",
        "Written by `results/origins.py` from the first table of each method's page; do not edit. **paper**: read "
        "in it, or named by it; **release**: read in the authors' code, or a port of it; **relative**: taken from a "
        "method that the paper names or descends from; **ours**: a reconstruction, or our choice where neither "
        "decides. A part may be of several. What a method leaves out or mends of its release is on its page.",
    ]
    rows = ["| method | " + " | ".join(KINDS) + " |", "|---" * (len(KINDS) + 1) + "|"]
    lists = []
    for method in sorted(methods.registry()):
        found = parts(method)
        of = {kind: [part for part in found if kind in part.kinds()] for kind in KINDS}
        rows.append(f"| [{method}]({method}.md) | " + " | ".join(str(len(each)) for each in of.values()) + " |")
        lines = [f"- {', '.join(part.kinds())}: {part.what} ({part.where}): {part.origin}" for part in found]
        lists += [f"## {method}", "\n".join(lines)]
    return "\n\n".join([*text, "\n".join(rows), *lists]) + "\n"


def terms(method: str) -> list[str]:
    """The terms of a method's loss."""
    weights = signature(methods.registry()[method]).parameters.get("weights")
    return [field.name for field in fields(weights.default)] if weights else []


def places(method: str, part: Part) -> Iterator[tuple[str, bool]]:
    """Every name of code in a row, and whether it is there."""
    cls = methods.registry()[method]
    module = import_module(cls.__module__)
    for text in re.findall(r"`([^`]+)`", part.where):
        name = text.partition("(")[0]
        first, _, rest = name.partition(".")
        roots: list[object] = [cls, module, layers, losses, optimizers, methods]
        if first in ("layers", "losses", "optimizers", "methods"):
            roots, name = (
                [{"layers": layers, "losses": losses, "optimizers": optimizers, "methods": methods}[first]],
                rest,
            )
        if first == "weights":
            yield text, rest in terms(method)
        elif first == "data":
            from xmodal.data import CrossModalDataModule

            yield text, rest in signature(CrossModalDataModule).parameters
        else:
            yield text, name in signature(cls).parameters or any(_has(root, name) for root in roots)


def _has(root: object, name: str) -> bool:
    for each in name.split("."):
        if not hasattr(root, each):
            return False
        root = getattr(root, each)
    return True


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


if __name__ == "__main__":
    PAGE.write_text(page())
