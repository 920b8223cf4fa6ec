"""Checksums of tables, and of pictures, kept beside the features: a picture is read again only when it changed."""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmodal.data.readers.files import Entry, Files, Photos, Pixels
from xmodal.data.readers.tables import table_parts
from xmodal.encoders.trunk import files_of
from xmodal.errors import UserError
from xmodal.progress import bar

KEPT = "checksums.json"
HASHED = 2**30  # bytes that are read to tell a table from another
JUST_NOW = 2 * 10**9  # nanoseconds within which a file may change twice and show one time
UNREADABLE = "unreadable"
Kept = dict[str, tuple[tuple[int, ...], str]]  # by path and name: size, times and inode, and the checksum


def table_hash(table: str | Path) -> str:
    """Of names and content of a table's parts, 16 hex digits; of more than 1 GiB together, of names and sizes.

    Raises:
        UserError: it cannot be read, or see `table_parts`.
    """
    try:
        return _files_hash(table_parts(table))
    except OSError as error:
        raise UserError(f"cannot read the table {table}: {error.strerror}.") from error


def weights_hashes(settings: Iterable[tuple[str, str]]) -> dict[str, str]:
    """As `table_hash`, of the files of encoders' weights and models, which may be trained or written anew, by key."""
    found = {}
    for key, text in settings:
        with suppress(OSError):
            if key.endswith((".weights", ".model")) and (files := files_of(text)):
                found[key] = _files_hash(files)
    return found


def _files_hash(files: Iterable[Path]) -> str:
    found = [(file, file.stat()) for file in files]
    return _content_hash(tuple((file, each.st_size, each.st_mtime_ns, each.st_ino) for file, each in found))


@cache
def _content_hash(stamps: tuple[tuple[Path, int, int, int], ...]) -> str:
    digest, whole = hashlib.sha256(), sum(size for _, size, *_ in stamps) <= HASHED
    for part, size, *_ in stamps:
        digest.update(f"{part.name}\0{size}\0".encode() + (part.read_bytes() if whole else b""))
    return digest.hexdigest()[:16]


def fingerprint(pictures: Photos | Pixels, folder: Path) -> str:
    """16 hex digits of what all pictures hold, and of their order: another picture, another cache.

    Args:
        pictures: in files, or in an array, of which every byte counts.
        folder: where checksums of files are kept.

    Raises:
        UserError: the folder cannot be written.
    """
    digest = hashlib.sha256()
    if isinstance(pictures, Photos):
        for name, checksum in zip(pictures.names, checksums(pictures.files, pictures.found, folder), strict=True):
            digest.update(f"{name}\0{checksum}\n".encode())
    else:
        digest.update(f"{pictures.name} {pictures.array.shape} {pictures.array.dtype}".encode())
        for row in pictures.array:
            digest.update(np.ascontiguousarray(row).data)
    return digest.hexdigest()[:16]


def marks(pictures: Photos | Pixels, folder: Path) -> NDArray[np.uint64]:
    """(N,) a number, not 0, of what each picture holds; see `fingerprint`."""
    if isinstance(pictures, Photos):
        found = [each[:16] for each in checksums(pictures.files, pictures.found, folder)]
    else:
        found = [hashlib.sha256(np.ascontiguousarray(row).tobytes()).hexdigest()[:16] for row in pictures.array]
    return np.array([int(hashlib.sha256(each.encode()).hexdigest()[:16], 16) or 1 for each in found], np.uint64)


def checksums(files: Files, entries: Sequence[Entry | None], folder: Path) -> list[str]:
    """SHA-256 of the content of every file, 32 hex digits; empty for None, `unreadable` for what cannot be read.

    A checksum is taken from `folder/checksums.json` where size, times and inode of the file (or of its zip) are still
    the same. A file that changed less than two seconds ago is read again the next time: its clock may not tell.

    Args:
        files: where they lie.
        entries: N of them.
        folder: of the features, made where it is missing.

    Raises:
        UserError: the folder cannot be written.
    """
    stored = _known(folder / KEPT)
    names = [f"{entry.name}\0{entry.place if entry.member else ''}" if entry else "" for entry in entries]

    def read(entry: Entry) -> str:
        try:
            return hashlib.sha256(files.read(entry)).hexdigest()[:32]
        except (UserError, OSError):
            return UNREADABLE

    fresh = {
        name: entry
        for name, entry in zip(names, entries, strict=True)
        if entry and (name not in stored or tuple(stored[name][0]) != entry.stamp)
    }
    if fresh:
        now = time.time_ns()
        with ThreadPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
            progress = bar(pool.map(read, fresh.values()), desc="pictures read", total=len(fresh), unit="picture")
            found = dict(zip(fresh, progress, strict=True))
        stored |= {name: (entry.stamp, found[name]) for name, entry in fresh.items()}
        _keep(
            folder / KEPT,
            {n: row for n, row in stored.items() if row[1] != UNREADABLE and max(row[0][1:3]) < now - JUST_NOW},
        )
    return [stored[name][1] if name else "" for name in names]


def _known(path: Path) -> Kept:
    try:
        known: Kept = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return known


def _keep(path: Path, known: Kept) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(known))
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write the checksums of the pictures: {error}. Make {path.parent} a writable folder, or name "
            "another one in XMODAL_DATA."
        ) from error
