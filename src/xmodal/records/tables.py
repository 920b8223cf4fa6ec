"""Tables of results in the forms that are read: terminal, Markdown, CSV and LaTeX (booktabs)."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from xmodal.files import write_atomically
from xmodal.records.setups import Spread

Cell = str | Spread


@dataclass(frozen=True)
class Table:
    """A table with one header row.

    Args:
        title: one line.
        columns: the header.
        rows: as many cells each as there are columns; a column holds spreads only or none.
        notes: sentences that say how to read it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """Aligned columns."""
        return "\n".join([self.title, "", *aligned([self.columns, *self.rows]), "", *self.notes]) + "\n"

    def markdown(self) -> str:
        """A Markdown table between title and notes."""
        return "\n\n".join([self.title, "\n".join(piped([self.columns, *self.rows])), *self.notes]) + "\n"

    def csv(self) -> str:
        """Numbers in full precision; the deviation over seeds has a column of its own."""
        columns: list[list[object]] = []
        for name, *cells in zip(self.columns, *self.rows, strict=True):
            if spreads := [cell for cell in cells if isinstance(cell, Spread)]:
                columns.append([name, *(cell.mean for cell in spreads)])
                columns.append([f"{name} deviation", *(cell.deviation for cell in spreads)])
            else:
                columns.append([name, *cells])
        out = io.StringIO()
        csv.writer(out, lineterminator="\n").writerows(zip(*columns, strict=True))
        return out.getvalue()

    def latex(self) -> str:
        r"""A `table` float; the document needs `\usepackage{booktabs}`."""
        head, *rows = [" & ".join(map(_latex, row)) + r" \\" for row in (self.columns, *self.rows)]
        caption = _escaped(" ".join([f"{self.title}.", *self.notes]))
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{caption}}}",
                rf"\begin{{tabular}}{{{'l' * len(self.columns)}}}",
                r"\toprule",
                head,
                r"\midrule",
                *rows,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
                "",
            ]
        )

    def write(self, stem: Path) -> list[Path]:
        """Write `<stem>.md`, `.csv` and `.tex` and return their paths.

        Raises:
            UserError: the folder cannot be written.
        """
        forms = {".md": self.markdown, ".csv": self.csv, ".tex": self.latex}
        for suffix, form in forms.items():
            write_atomically(stem.with_suffix(suffix), form())
        return [stem.with_suffix(suffix) for suffix in forms]


def aligned(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Lines with the cells of a column one below the other."""
    shown = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in shown]


def piped(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """Lines of a Markdown table, whose first row is its head."""
    head, *body = [f"| {' | '.join(map(str, row))} |" for row in rows]
    return [head, f"| {' | '.join(['---'] * len(rows[0]))} |", *body]


def _latex(cell: Cell) -> str:
    text = str(cell)
    number = re.fullmatch(r"[-+\d.,\[\] ]*\d[-+\d.,\[\] ]*", text)
    return "$" + text.replace("+-", r"\pm") + "$" if number else _escaped(text)


def _escaped(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "+-": r"$\pm$"}
    return re.sub(r"\+-|[\\~^&%$#_{}]", lambda match: special.get(match[0], "\\" + match[0]), text)
