"""What a table says of pictures: which file, which texts, which labels, which role; see `read_listing`."""

import ast
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xmodal.data.readers.tables import ROLES, Columns, read_table
from xmodal.data.split import Index
from xmodal.errors import UserError

NAMES = {
    "file": (
        "file",
        "file_name",
        "filename",
        "filepath",
        "image",
        "image_path",
        "img",
        "path",
        "picture",
        "photo",
        "image_id",
        "id",
    ),
    "text": ("text", "caption", "captions", "sentences", "description", "title", "txt", "productDisplayName", "name"),
    "label": ("label", "labels", "category", "categories", "class", "classes", "tags", "cls"),
    "split": ("split", "subset", "partition", "set"),
}  # of columns, as people write them; the first that is there is taken
TRUE, FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no"}
NOT = {"-1", "-1.0"}  # as CelebA writes it; beside 0 others write it for what nobody knows
VECTOR = re.compile(r"\W*((-?[01](\.0*)?|true|false)\b\W*){2,}", re.IGNORECASE)
MOST = 10_000  # labels; more are words of a text rather than classes


@dataclass(frozen=True)
class Listing:
    """Pairs of a picture and a text, as a table lists them.

    Attributes:
        files: M names of pictures, each once, in the order of the table.
        rows: (N,) which picture each pair shows.
        texts: N texts.
        labels: N tuples of class names, or None where no column was named.
        layers: whether the classes of a pair are the layers of a hierarchy, coarsest first.
        splits: N roles, `train`, `val` or `test`, or None where there is no such column.
        left_out: number of pairs that were left out, by the reason.
    """

    files: list[str]
    rows: Index
    texts: list[str]
    labels: list[tuple[str, ...]] | None = None
    layers: bool = False
    splits: list[str] | None = None
    left_out: dict[str, int] = field(default_factory=dict)

    def multi_hot(self, fewest: int = 1) -> tuple[NDArray[np.uint8], tuple[str, ...], dict[str, int]]:
        """(N, C) labels, the names of the C labels, and how many pairs the labels have that are left out as too rare.

        Args:
            fewest: pairs that a label needs.

        Raises:
            UserError: there are more labels than classes can be.
        """
        labels = self.labels or [("unlabelled",)] * len(self.texts)
        counts = Counter(name for each in labels for name in each)
        names = sorted(name for name, count in counts.items() if count >= fewest)
        if len(names) > MOST:
            raise UserError(
                f"the labels have {len(names):,} different values, such as {names[0]!r}: {MOST:,} are the most. Is it "
                "a column of texts, or does a separator lack?"
            )
        column = {name: place for place, name in enumerate(names)}
        label = np.zeros((len(labels), len(names)), np.uint8)
        places = {each: [column[name] for name in each if name in column] for each in set(labels)}
        for row, each in enumerate(labels):
            label[row, places[each]] = 1
        return label, tuple(names), {name: count for name, count in counts.items() if count < fewest}

    def hierarchy(self) -> NDArray[np.int64] | None:
        """(N, K) class per layer, coarsest first, counted within the layer; None without layers."""
        if not self.layers or self.labels is None:
            return None
        layers = [{name: k for k, name in enumerate(sorted(set(layer)))} for layer in zip(*self.labels, strict=True)]
        return np.array([[layers[k][name] for k, name in enumerate(each)] for each in self.labels], np.int64)


def read_listing(
    table: str | Path,
    file: str | None = None,
    text: str | None = None,
    label: str | Sequence[str] = (),
    separator: str | None = None,
    layers: str | None = None,
    split: str | None = None,
    ending: str = "",
) -> Listing:
    """Read which pictures, texts and labels belong together.

    A picture may have several texts: as several rows, or as a list in one row; it then has the labels of all its rows.
    Rows without a picture or a text are left out and counted.

    Args:
        table: see `read_table`.
        file: column of the pictures' file names; default: the usual one that is there, such as `file` or `image`.
        text: column of the texts, the same way.
        label: one column of classes; or several columns, each one label (cells 0 and 1) or a set of classes.
        separator: between several classes in a cell, such as `|`.
        layers: between the layers of a class such as `animal/bird/owl`.
        split: column of the roles: train, val, test; other spellings in use are known.
        ending: of the pictures' names where the table leaves it out, such as `.jpg`.

    Raises:
        UserError: there is no such column or role, nothing is left, or a picture has several classes with `layers`.
    """
    marks = [label] if isinstance(label, str) else list(label)
    known = None if file is None or text is None else {file, text, *marks, *([split] if split else [])}
    columns = read_table(table, known)
    file, text = file or guess(columns, "file", table), text or guess(columns, "text", table)
    for name in (file, text, *marks, *([split] if split else [])):
        if name not in columns:
            there = ", ".join(columns if known is None else read_table(table))
            raise UserError(f"{table} has no column {name!r}; its columns are: {there}.")
    classes = _classes(columns, marks, separator, layers)
    roles = _roles(columns[split], split) if split else None
    files: dict[str, int] = {}
    rows, texts, places, lacking = [], [], [], Counter[str]()
    for place, (name, cell) in enumerate(zip(columns[file], columns[text], strict=True)):
        name = _word(name)
        found = [cell.strip()] if type(cell) is str and cell[:1] != "[" else _several(cell, None)
        if not name or not any(found):
            lacking["without_text" if name else "without_file"] += 1
        elif classes is not None and not classes[place]:
            lacking["without_label"] += 1
        elif roles is not None and not roles[place]:
            lacking["without_split"] += 1
        else:
            row = files.setdefault(name + ending, len(files))
            for each in found:
                if each:
                    rows.append(row)
                    texts.append(each)
                    places.append(place)
    if not texts:
        raise UserError(f"{table}: no row has all that is needed ({_counted(lacking)}).")
    labels = None if classes is None else [classes[place] for place in places]
    return Listing(
        list(files),
        np.array(rows, np.int64),
        texts,
        labels and _of_pictures(labels, rows, list(files), layers),
        layers is not None,
        None if roles is None else [roles[place] for place in places],
        {f"left_out_{reason}": count for reason, count in lacking.items()},
    )


def _of_pictures(
    labels: list[tuple[str, ...]], rows: list[int], files: list[str], layers: str | None
) -> list[tuple[str, ...]]:
    """The labels of every pair's picture: what is searched is judged once, by whichever of its texts it is met."""
    together: list[tuple[str, ...]] = [()] * len(files)
    for row, each in zip(rows, labels, strict=True):
        if together[row] and each != together[row]:
            if layers is not None:
                both = f"{together[row][-1]} and {each[-1]}"
                raise UserError(f"{files[row]} has the classes {both}: with layers a picture has one class.")
            each = tuple(dict.fromkeys((*together[row], *each)))
        together[row] = each
    return [together[row] for row in rows]


def guess(columns: Columns, kind: str, table: str | Path) -> str:
    """The column of a kind (`file`, `text`, `label`, `split`) by its usual names.

    Raises:
        UserError: there is none of them.
    """
    lower = {name.lower(): name for name in reversed(columns)}
    found = next((lower[name.lower()] for name in NAMES[kind] if name.lower() in lower), None)
    if found is None:
        raise UserError(
            f"which column of {table} holds the {kind}? Say it with --{kind}; there are: {', '.join(columns)}."
        )
    return found


def _classes(
    columns: Columns, marks: Sequence[str], separator: str | None, layers: str | None
) -> list[tuple[str, ...]] | None:
    """The classes of every row; none where a cell is empty."""
    if not marks:
        return None
    if len(marks) == 1:
        vectors = [] if layers else [cell for cell in map(str, columns[marks[0]]) if cell not in ("", "None")]
        if vectors and all(map(VECTOR.fullmatch, vectors)):  # 0 would be a label, which nearly all pairs share
            raise UserError(
                f"column {marks[0]!r} holds {vectors[0][:40]}: several labels are their names, such as red|circle, or "
                "columns that are each 0 or 1."
            )
        known: dict[Any, tuple[str, ...]] = {}  # by cell: few differ, and pairs share them

        def classes(cell: Any) -> tuple[str, ...]:  # noqa: ANN401
            if not isinstance(cell, (str, int)):
                return _parts(cell, separator, layers)
            if cell not in known:
                known[cell] = _parts(cell, separator, layers)
            return known[cell]

        found = [classes(cell) for cell in columns[marks[0]]]
        if layers is not None and len(depths := {len(each) for each in found if each}) > 1:
            raise UserError(
                f"column {marks[0]!r} has classes of {min(depths)} to {max(depths)} layers: all need the same number."
            )
        return found
    if layers is not None:
        raise UserError(f"layers are read from one column of labels, not from {len(marks)}: {', '.join(marks)}.")
    table = [[_word(cell).lower() for cell in columns[name]] for name in marks]
    words = {name: {*cells} - {""} for name, cells in zip(marks, table, strict=True)}
    classes_of = {name: sorted(found - TRUE - FALSE - NOT) for name, found in words.items()}
    if not any(classes_of.values()):
        if (every := set.union(*words.values())) & FALSE and every & NOT:
            raise UserError(f"columns {', '.join(marks)} hold 0 and -1: write 1 where a label is there, else 0.")
        shown = [[cell in TRUE for cell in cells] for cells in table]
        return [
            tuple(name for name, there in zip(marks, row, strict=True) if there) for row in zip(*shown, strict=True)
        ]
    if flags := [name for name, found in classes_of.items() if words[name] and not found]:
        other = next(name for name, found in classes_of.items() if found)
        raise UserError(
            f"column {flags[0]!r} is a label that is there or not, column {other!r} holds "
            f"{classes_of[other][0][:40]!r}: several columns are all of one kind; write a word in place of 1, and "
            "nothing in place of 0."
        )
    return [
        tuple(
            f"{name}:{part}"
            for name, cell in zip(marks, row, strict=True)
            for part in _several(cell, separator)
            if part
        )
        for row in zip(*(columns[name] for name in marks), strict=True)
    ]


def _parts(cell: Any, separator: str | None, layers: str | None) -> tuple[str, ...]:  # noqa: ANN401
    several = tuple(dict.fromkeys(part for part in _several(cell, separator) if part))
    if layers is None or not several:
        return several
    if len(several) > 1:
        raise UserError(f"with layers a pair has one class, not {len(several)}: {', '.join(several)[:80]}.")
    path = [part.strip() for part in several[0].split(layers)]
    return tuple(layers.join(path[: depth + 1]) for depth in range(len(path)))


def _several(cell: Any, separator: str | None) -> list[str]:  # noqa: ANN401
    """The values of a cell: of a list, of a list written as text, or of text with a separator."""
    if isinstance(cell, str) and cell[:1] == "[" and cell.rstrip()[-1:] == "]":
        try:
            cell = ast.literal_eval(cell.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return [cell.strip()]
    if isinstance(cell, (list, tuple)):
        return [_word(each) for each in cell]
    word = _word(cell)
    return [part.strip() for part in word.split(separator)] if separator else [word]


def _word(cell: Any) -> str:  # noqa: ANN401
    """A cell as text; empty for what is missing."""
    if isinstance(cell, str):
        return cell.strip()
    if cell is None or cell != cell:
        return ""
    if isinstance(cell, (bytes, list, tuple, dict)):
        raise UserError(f"a cell holds {str(cell)[:60]!r}: text or a number is expected.")
    return str(int(cell)) if isinstance(cell, float) and cell.is_integer() else str(cell)


def _roles(cells: Sequence[Any], column: str) -> list[str]:
    words = [_word(cell).lower() for cell in cells]
    if unknown := sorted({word for word in words if word and word not in ROLES}):
        raise UserError(f"column {column!r} holds {unknown[0][:40]!r}: the roles of a split are train, val and test.")
    return [ROLES.get(word, "") for word in words]


def _counted(lacking: Counter[str]) -> str:
    return ", ".join(f"{count:,} {reason.replace('_', ' ')}" for reason, count in lacking.items())
