"""Files that hold pictures and are never unpacked: zips, tars, and Parquet files with pictures in their rows."""

import os
import tarfile
import zipfile
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

from xmodal.data.readers.tables import arrow
from xmodal.errors import UserError

LARGEST = 200 * 2**20  # bytes of one file inside a zip; no photo of any dataset comes near
ROWS = 16  # Parquet files that a process keeps open, each with one row group in memory
RATIO, SMALL = 200, 2**22  # unpacked to packed, of anything that is not small; no picture compresses like that


class Zip:
    """A zip; its threads take turns, for Python 3.12's `zipfile` seeks where others read."""

    def __init__(self, path: Path) -> None:
        self.path, self.handle, self.lock = path, zipfile.ZipFile(path), Lock()

    def read(self, member: str) -> bytes:
        """The content of a member; an exception of any class where it is damaged."""
        found = self.handle.getinfo(member)
        size, packed = found.file_size, max(found.compress_size, 1)
        if size > LARGEST or (size > SMALL and size > RATIO * packed):
            raise UserError(
                f"{member} in {self.path} would unpack from {packed} to {size} bytes: this is no dataset's file."
            )
        with self.lock:
            return self.handle.read(found)


class Tar:
    """A tar that is not compressed, such as a shard of WebDataset: members are read where they lie."""

    def __init__(self, path: Path) -> None:
        with tarfile.open(path, "r:") as archive:
            self.places = {member.name: (member.offset_data, member.size) for member in archive if member.isreg()}
        self.path = path

    def read(self, member: str) -> bytes:
        """The content of a member; an exception of any class where it is damaged."""
        place, size = self.places[member]
        with self.path.open("rb") as file:
            file.seek(place)
            content = file.read(size)
        if len(content) < size:
            raise UserError(f"{member} lacks its last {size - len(content)} bytes.")
        return content


class ParquetRows:
    """A Parquet file with pictures in a column, as bytes or as a struct that holds them; one row group is kept."""

    def __init__(self, path: Path) -> None:
        self.file, self.lock = arrow().ParquetFile(path, memory_map=True), Lock()
        metadata = self.file.metadata
        self.starts = [0]
        for number in range(metadata.num_row_groups):
            self.starts.append(self.starts[-1] + metadata.row_group(number).num_rows)
        self.kept: tuple[str, int, Any] = ("", -1, None)

    def read(self, member: str) -> bytes:
        """The picture of a `column/row`; an exception of any class where there is none."""
        column, _, row = member.rpartition("/")
        place = int(row)
        group = next(k for k, start in enumerate(self.starts[1:]) if place < start)
        with self.lock:
            if self.kept[:2] != (column, group):
                self.kept = (column, group, self.file.read_row_group(group, columns=[column]).column(0))
            cell = self.kept[2][place - self.starts[group]].as_py()
        return bytes(cell["bytes"] if isinstance(cell, dict) else cell)


Archive = Zip | Tar | ParquetRows


class Opened:
    """Archives that are open, by process: a fork must not seek in its parent's handles.

    Zips and tars stay: their list of members is read once. Of Parquet files the first goes where there are too many.
    """

    kinds: ClassVar[dict[str, type[Archive]]] = {".zip": Zip, ".tar": Tar, ".parquet": ParquetRows}

    def __init__(self) -> None:
        self.archives: dict[tuple[int, Path], Archive] = {}

    def __getitem__(self, path: Path) -> Archive:
        key = (os.getpid(), path)
        if (found := self.archives.get(key)) is None:
            found = self.archives[key] = self.kinds[path.suffix.lower()](path)
            rows = [each for each, archive in list(self.archives.items()) if isinstance(archive, ParquetRows)]
            for each in rows[:-ROWS]:
                self.archives.pop(each, None)  # closed when nobody reads it any more
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"archives": {}}
