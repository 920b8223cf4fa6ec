"""Tables of pictures and texts as people have them: CSV, TSV, JSON Lines, Parquet, COCO's JSON, and tar shards.

Every form becomes columns: a list of cells by name, all of the same length. Pictures inside a Parquet file or a tar are
named `<file>/<where in it>`, as `xmodal.data.readers.files` finds them.
"""

import csv
import glob
import os
import re
import tarfile
from collections.abc import Collection, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from xmodal.data.readers.coco import read_coco, scalars
from xmodal.data.readers.tars import members
from xmodal.data.readers.text import decoded, parse_json, text_of
from xmodal.errors import UserError

Columns = dict[str, list[Any]]
PICTURES = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm")
ROLES = {
    **dict.fromkeys(("train", "training", "restval"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing", "query"), "test"),
}  # how people write the roles of a split


def read_table(table: str | Path, wanted: Collection[str] | None = None) -> Columns:
    """The cells of a table by column.

    Args:
        table: a file, a folder of parts, or a pattern of them such as `shards/*.tar`; parts follow one another.
        wanted: columns to keep; None: all.

    Returns:
        Columns of equal length. Where parts are named after roles (`train-0.parquet`, `test-0.parquet`) and have no
        column `split`, there is one.

    Raises:
        UserError: there is no such file, its form is not known, or it is damaged.
    """
    parts, folder = table_parts(table), table_folder(table)
    form = parts[0].suffix.lower()
    roles = {part: ROLES.get(re.split(r"[-_.0-9]", part.stem.lower())[0]) for part in parts}
    if form == ".json":
        several = len({*roles.values()} - {None}) > 1
        found = read_coco(parts, roles if several else dict.fromkeys(parts))
    else:
        found, filled = {}, 0
        for part in parts:
            columns = READERS[form](part, wanted, part.relative_to(folder).as_posix())
            if part.parent != folder:
                columns = _from(folder, part, columns)
            rows = len(next(iter(columns.values()), ()))
            if roles[part] and len(parts) > 1 and "split" not in columns:
                columns["split"] = [roles[part]] * rows
            for name in columns:
                found.setdefault(name, [None] * filled)
            for name, cells in found.items():
                cells.extend(columns.get(name) or [None] * rows)
            filled += rows
    if (found or wanted is None) and not any(found.values()):
        raise UserError(f"{table} has no rows.")
    return found if wanted is None else {name: cells for name, cells in found.items() if name in wanted}


def table_parts(table: str | Path) -> list[Path]:
    """The files of a table, all of one form.

    Raises:
        UserError: none is there, or they are of several forms or of none that can be read.
    """
    path = Path(table)
    forms = ", ".join((*READERS, ".json"))
    if path.is_dir():
        parts = sorted(each for each in path.iterdir() if each.suffix.lower() in (*READERS, ".json"))
    else:
        parts = [path] if path.is_file() else sorted(Path(each) for each in glob.glob(str(table)))  # noqa: PTH207
    if not parts:
        what = f"holds no table ({forms})" if path.is_dir() else "is not there"
        raise UserError(f"the table {table} {what}.")
    found = {part.suffix.lower() for part in parts}
    if len(found) > 1 or not found <= {*READERS, ".json"}:
        raise UserError(
            f"the table {table} is {' and '.join(sorted(found)) or 'a file without ending'}; one of {forms} is read."
        )
    return parts


def table_folder(table: str | Path) -> Path:
    """The folder that all files of a table lie in, below which those that hold pictures are named.

    Raises:
        UserError: see `table_parts`.
    """
    return Path(os.path.commonpath([part.parent for part in table_parts(table)]))


def _from(folder: Path, part: Path, columns: Columns) -> Columns:
    """Columns in which files that lie beside their table are named from the folder of all: each may have a 1.jpg."""

    def beside(cells: list[Any]) -> bool:
        first = next((cell for cell in cells if type(cell) is str and cell), "")
        return os.path.isfile(part.parent / first)  # noqa: PTH113 - Path.is_file raises where a text is no name

    front = part.parent.relative_to(folder).as_posix()
    return {
        name: [cell and f"{front}/{cell}" for cell in cells] if beside(cells) else cells
        for name, cells in columns.items()
    }


def _lines(text: str) -> Iterator[str]:
    """Lines with their ends, one by one: a copy of all of them would double the memory."""
    return (found[0] for found in re.finditer(r"[^\n]*\n|[^\n]+$", text))


def _separated(part: Path, wanted: Collection[str] | None, _below: str) -> Columns:
    """CSV or TSV whose first row names the columns; which of comma, semicolon and tab separates is read there.

    A quote that opens and does not close would swallow the rows up to the next quote, and is refused.
    """
    text = text_of(part)
    said = re.match(r"sep=([,;\t])\r?\n", text)  # a line of Excel's, before the names
    head = text.partition("\n")[0]
    separator = said[1] if said else "\t" if part.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
    limit = csv.field_size_limit(2**24)  # of the process
    picture = re.compile(
        rf"(^|[{separator}\n])[^{separator}\s]+\.({'|'.join(PICTURES)})([{separator}\n]|$)", re.IGNORECASE
    )
    open_quote = f"{part} is damaged: a quote opens in line {{}} and does not close there."
    rows, end = csv.reader(_lines(text), delimiter=separator, strict=True), 0
    try:
        names = [name.strip() for name in next(islice(rows, bool(said), None), [])]
        _once(part, names)
        kept = [(name, place) for place, name in enumerate(names) if name and (wanted is None or name in wanted)]
        columns: Columns = {name: [] for name, _ in kept}
        appends = [(columns[name].append, place) for name, place in kept]
        shared: dict[str, str] = {}  # cells that repeat, such as classes, are one string
        end = rows.line_num
        for row in rows:
            begin, end = end + 1, rows.line_num
            if end > begin and any("\n" in cell and picture.search(cell) for cell in row):
                raise UserError(open_quote.format(begin))
            if len(row) != len(names):
                if not row:
                    continue
                raise UserError(f"{part}, line {begin}: {len(row)} cells, but the first line names {len(names)}.")
            for append, place in appends:
                cell = row[place]
                append(shared.setdefault(cell, cell) if len(cell) < 24 else cell)
            if len(shared) > 200_000:
                shared.clear()
    except csv.Error as error:
        if "end of data" in str(error):
            raise UserError(open_quote.format(end + 1)) from error
        raise UserError(f"{part} is damaged: line {end + 1}: {error}.") from error
    finally:
        csv.field_size_limit(limit)
    return columns


def _once(part: Path, names: list[str]) -> None:
    """Refuse a table that names a column twice; one without a name, such as an index, is none."""
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise UserError(f"{part} names a column twice: {', '.join(twice)}.")


def _json_lines(part: Path, wanted: Collection[str] | None, _below: str) -> Columns:
    columns: Columns = {}
    rows = 0
    for number, line in enumerate(_lines(text_of(part)), 1):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{part}, line {number} is no JSON ({error}).") from error
        if not isinstance(record, dict):
            raise UserError(f'{part}, line {number}: each line is an object such as {{"file": "1.jpg", ...}}.')
        for name, cell in record.items():
            if wanted is None or name in wanted:
                columns.setdefault(name, [None] * rows).append(cell)
        rows += 1
        for cells in columns.values():
            if len(cells) < rows:
                cells.append(None)
    return columns


def arrow() -> Any:  # noqa: ANN401 - a module without types
    """pyarrow.parquet, which reads Parquet.

    Raises:
        UserError: it is not installed.
    """
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UserError("Parquet is read by pyarrow: `pip install pyarrow`, or the extra `xmodal[parquet]`.") from error
    return pyarrow.parquet


def _parquet(part: Path, wanted: Collection[str] | None, below: str) -> Columns:
    """Columns of a Parquet file; pictures (struct of bytes and path, as Hugging Face's) are named, not read."""
    parquet = arrow()
    try:
        with parquet.ParquetFile(part) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            _once(part, schema.names)
            names = [name for name in schema.names if wanted is None or name in wanted]
            pictures = {name for name in names if _holds_pictures(file, schema.field(name))}
            table = file.read(columns=[name for name in names if name not in pictures])
            columns = {name: _cells(table[name]) for name in table.column_names}
    except (OSError, ValueError) as error:  # pyarrow's own are ValueErrors
        raise UserError(f"{part} is damaged ({' '.join(str(error).split())[:120]}).") from error
    for name in pictures:
        columns[name] = [f"{below}/{name}/{row}" for row in range(rows)]
    return {name: columns[name] for name in names}


def _holds_pictures(file: Any, field: Any) -> bool:  # noqa: ANN401 - pyarrow's
    """Whether a column holds files in bytes; some writers leave out that bytes are text, which pictures never are."""
    import pyarrow

    kind = field.type
    if pyarrow.types.is_struct(kind):
        return any(kind.field(place).name == "bytes" for place in range(kind.num_fields))
    if not (pyarrow.types.is_binary(kind) or pyarrow.types.is_large_binary(kind)):
        return False
    first = next(file.iter_batches(16, columns=[field.name]), None)
    try:
        return not [each.decode() for each in (first.column(0).to_pylist() if first else ()) if each]
    except UnicodeDecodeError:
        return True


def _cells(column: Any) -> list[Any]:  # noqa: ANN401 - pyarrow's
    """The cells of a column; times are text, because nanoseconds are no datetimes, and so are bytes."""
    import pyarrow

    if pyarrow.types.is_temporal(column.type):
        column = column.cast(pyarrow.string())
    cells: list[Any] = column.to_pylist()
    return [each.decode(errors="replace") if isinstance(each, bytes) else each for each in cells]


def _shard(part: Path, wanted: Collection[str] | None, below: str) -> Columns:
    """A WebDataset shard: members of one key are a row, their endings columns; `json` brings columns of its own."""
    rows: dict[str, dict[str, Any]] = {}
    try:
        for archive, member in members(part):
            folder, _, file = member.name.rpartition("/")
            stem, _, ending = file.partition(".")
            if not member.isfile() or not ending:
                continue
            row, ending = rows.setdefault(f"{folder}/{stem}", {}), ending.lower()
            if ending.rpartition(".")[2] in PICTURES:
                row.setdefault("file", []).append((ending.count("."), f"{below}/{member.name}"))
            elif ending in ("txt", "text", "caption", "cls", "json"):
                text = decoded(archive.extractfile(member).read(), f"{member.name} in {part}").strip()  # type: ignore[union-attr]
                more = dict(parse_json(text)) if ending == "json" else {ending: text}
                row.update({name: value for name, value in more.items() if name != "file"})
    except (tarfile.TarError, OSError, EOFError, ValueError, TypeError) as error:
        raise UserError(f"{part} is a damaged shard ({' '.join(str(error).split())[:120]}).") from error
    for row in (each for each in rows.values() if "file" in each):  # 1.jpg is the picture, 1.mask.png is of it
        (dots, row["file"]), *others = sorted(row["file"])
        if others and others[0][0] == dots:
            raise UserError(f"{part} has two pictures of one key, {row['file']} and {others[0][1]}: keep one of them.")
    every = [name for name in scalars(rows.values()) if wanted is None or name in wanted]
    return {name: [row.get(name) for row in rows.values()] for name in every}


READERS = {
    **dict.fromkeys((".csv", ".tsv"), _separated),
    **dict.fromkeys((".jsonl", ".ndjson"), _json_lines),
    ".parquet": _parquet,
    ".tar": _shard,
}
