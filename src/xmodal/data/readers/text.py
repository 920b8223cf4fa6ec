"""Text files as people have them: UTF-8, UTF-16 by its mark, Latin-1 in lines of it; lines end at line ends alone."""

import codecs
import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from xmodal.errors import UserError

MARKS = {b"\xff\xfe\0\0": "utf-32", b"\0\0\xfe\xff": "utf-32", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
LARGEST = 2**31  # bytes of a table that is read as text; a larger one belongs into Parquet


def decoded(content: bytes, what: str) -> str:
    """The text, with every end of a line (CR LF, LF or CR) as LF.

    Raises:
        UserError: it is UTF-16 or UTF-32 and damaged, or has no mark that says which.
    """
    encoding = next((name for mark, name in MARKS.items() if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8-sig":
            raise UserError(f"{what} begins as {encoding} and is damaged ({error}): save it as UTF-8.") from error
        text = "\n".join(map(one_line, content.removeprefix(codecs.BOM_UTF8).split(b"\n")))
    if encoding == "utf-8-sig" and max(content[:4096:2].count(0), content[1:4096:2].count(0)) > len(content[:4096]) / 8:
        raise UserError(f"{what} looks like UTF-16 without a mark: save it as UTF-8.")
    return re.sub("\r\n?", "\n", text)


def one_line(content: bytes) -> str:
    """UTF-8, else Latin-1: tables are put together of files in both."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def text_of(part: Path) -> str:
    """The text of a file, see `decoded`.

    Raises:
        UserError: it is larger than a text that is read at once.
    """
    if part.stat().st_size > LARGEST:
        raise UserError(f"{part} has {part.stat().st_size:,} bytes: save tables of more than 2 GB as Parquet.")
    return decoded(part.read_bytes(), str(part))


def whole(text: str) -> str:
    """The text with `?` for half of a pair of UTF-16 units, which a text that was cut may hold: nothing encodes it."""
    return text.encode(errors="replace").decode()


def parse_json(text: str) -> Any:  # noqa: ANN401 - what the text holds
    """What a text in JSON holds, its texts as `whole` makes them.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested too deeply.
    """
    content = json.loads(text)
    halves = re.search(r"\\u[dD][89a-fA-F]", text)  # may be whole pairs
    return json.loads(whole(json.dumps(content, ensure_ascii=False))) if halves else content


def split_lines(text: str) -> list[str]:
    """The lines of `decoded` text; an empty line is one, what follows the last end is none."""
    return text.removesuffix("\n").split("\n") if text else []


def csv_rows(text: str, what: str) -> list[list[str]]:
    """The rows of comma-separated values that are not empty.

    Raises:
        UserError: a quote opens and does not close, which would swallow the rows after it.
    """
    reader = csv.reader(io.StringIO(text))
    every, found, before = split_lines(text), [], 0
    try:
        for row in reader:
            raw = "\n".join(every[before : reader.line_num])
            quoted = re.search('(^|,)"', raw)
            swallowed = "\n" in raw and re.search(r"\n(\d+|[^,\s]+\.\w{3,4}),", raw)  # a picture begins a row
            if quoted and (swallowed or raw.count('"') % 2):
                raise UserError(f"{what} is damaged: a quote opens in line {before + 1} and does not close there.")
            before = reader.line_num
            found += [row] if row else []
    except csv.Error as error:
        raise UserError(f"{what} is damaged: line {before + 1}: {error}.") from error
    return found
