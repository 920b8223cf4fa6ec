"""The files below a folder, each with what tells it from another one of its name."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from xmodal.errors import UserError

SKIPPED = ("features", "__MACOSX")  # our own cache; what a Mac adds to its zips


def stamp_of(status: os.stat_result) -> tuple[int, int, int, int]:
    """Size, times of change in nanoseconds, and inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def walk(folder: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, os.stat_result]]:
    """Every file below a folder with its status, links followed; hidden ones and our own cache left out."""
    try:
        with os.scandir(folder) as found:
            items = sorted(found, key=lambda item: item.name)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be read: {error.strerror}.") from error
    for item in items:
        if item.name.startswith("."):
            continue
        try:
            status = item.stat()
        except OSError as error:
            link = f", a link to {Path(item.path).readlink()}," if item.is_symlink() else ""
            raise UserError(f"{item.path}{link} cannot be read ({error.strerror}): mend or delete it.") from error
        if stat.S_ISDIR(status.st_mode) and item.name not in SKIPPED:
            place = (status.st_dev, status.st_ino)
            if place in above:
                raise UserError(f"{item.path} is a link to a folder that it lies in: delete it.")
            yield from walk(item.path, (*above, place))
        elif stat.S_ISREG(status.st_mode):
            yield item.path, status
