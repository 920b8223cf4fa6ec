"""`xmodal search INDEX`: ask an index with words or pictures; a table, JSON lines or a gallery answers."""

import argparse
import base64
import html
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal import arguments
from xmodal.errors import UserError
from xmodal.files import write_atomically

if TYPE_CHECKING:  # importing it takes seconds; the arguments are checked before
    from xmodal.search import Answers, Index

SHOWN = 160  # pixels of a picture in the gallery
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>:root{{color-scheme:light dark}}body{{font:15px/1.4 system-ui,sans-serif;margin:1.5rem}}
ol{{display:flex;flex-wrap:wrap;gap:.8rem;list-style:none;padding:0}}li{{width:160px}}img{{max-width:100%;display:block}}
small{{opacity:.75}}</style><h1>{title}</h1>{body}</html>"""


def main(argv: Sequence[str]) -> int:
    """Run the command; see `--help`."""
    options = arguments.parser("search").parse_args(list(argv))
    if options.k < 1:
        raise UserError(f"-k is {options.k}: give a whole number from 1.")
    texts, images = list(options.text), list(options.image)
    if options.queries or not (texts or images):
        for line in _lines(options.queries):
            (images if _is_picture(line) else texts).append(line)
    if not texts and not images:
        raise UserError("there is no query: give --text, --image, --queries FILE, or a text a line on stdin.")
    from xmodal.search import Index

    index = Index.open(options.index, options.run)
    answers = [
        (query, found)
        for kind, queries in (("texts", texts), ("images", images))
        if queries
        for query, found in _asked(index, kind, queries, options)
    ]
    if options.html:
        _write_gallery(index, answers, options.html)
    for query, found in answers:
        if options.json:
            hits = [{key: value for key, value in vars(hit).items() if value is not None} for hit in found[0]]
            sys.stdout.write(json.dumps({"query": query, "among": found.side, "hits": hits}, ensure_ascii=False) + "\n")
        else:
            sys.stdout.write(_table(query, found) + "\n")
    return 0


def _asked(
    index: "Index", kind: str, queries: Sequence[str], options: argparse.Namespace
) -> list[tuple[str, "Answers"]]:
    """Each query with its answer; a bad one is named before any is answered."""
    found = index.search(**{kind: queries}, among=options.among, k=options.k)  # type: ignore[arg-type]
    if kind == "texts" and index.about["vocabulary"] is not None:
        for query in queries:
            if unknown := index.trained.unknown(query):
                sys.stderr.write(f"{query!r}: this bag-of-words run does not know {', '.join(unknown)}\n")
    return [(query, found.of(row)) for row, query in enumerate(queries)]


def _lines(path: Path | None) -> list[str]:
    try:
        content = sys.stdin.read() if path is None else path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the queries in {path or 'stdin'}: {error}.") from error
    return [line.strip() for line in content.splitlines() if line.strip()]


def _is_picture(line: str) -> bool:
    return Path(line).suffix.lower() in (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def _table(query: str, found: "Answers") -> str:
    unit = "{:>8d}" if found.searched.bits else "{:>8.4f}"
    lines = [
        f"{query}",
        f"  rank  {'distance':>8}{'   score' if found.scores is not None else ''}      id  {found.side}",
    ]
    for hit in found[0]:
        score = "" if hit.score is None else f"{hit.score:>8.4f}"
        lines.append(f"  {hit.rank:>4}  {unit.format(hit.distance)}{score}{hit.id:>8}  {hit.name}")
    return "\n".join(lines) + "\n"


def _write_gallery(index: "Index", answers: Sequence[tuple[str, "Answers"]], path: Path) -> None:
    parts = []
    for query, found in answers:
        items = []
        for hit, row in zip(found[0], found.found.rows[0].tolist(), strict=False):
            shown = f"<p>{html.escape(hit.name)}</p>"
            picture = index.item("image", row) if found.side == "image" else None
            if picture is not None and not isinstance(picture, str):
                picture.thumbnail((SHOWN, SHOWN))
                picture.save(buffer := io.BytesIO(), "WEBP", quality=80)
                data = base64.b64encode(buffer.getvalue()).decode()
                shown = f'<img alt="" src="data:image/webp;base64,{data}">' + shown
            near = f"{hit.distance} bits" if index.bits else f"distance {hit.distance:.4f}"
            items.append(f"<li>{shown}<small>{hit.rank}: {near}</small></li>")
        parts.append(f"<h2>{html.escape(query)}</h2><ol>{''.join(items)}</ol>")
    title = html.escape(f"{index.about['method']}: {len(answers)} queries")
    write_atomically(path, PAGE.format(title=title, body="".join(parts)))
    sys.stderr.write(f"page: {path}\n")
