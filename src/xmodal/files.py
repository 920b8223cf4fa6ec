"""Files that are written whole or not at all."""

import contextlib
import hashlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from xmodal.errors import UserError

PARTIAL = ".partial"  # how the name of a file ends that is being written


def write_atomically(path: Path, content: str | Callable[[io.BytesIO], object], *, lasting: bool = False) -> None:
    """Write a file beside its place and rename it: a reader, or a kill, finds the old file or the whole new one.

    Args:
        path: of the file; its folder is made.
        content: text, or what fills a buffer with bytes: libraries that write by themselves end badly on a full disk.
        lasting: have it on the disk before it takes the name, so that a power failure leaves the old file or the new.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
        MemoryError: the memory is too small.
    """
    buffer = io.BytesIO()
    if isinstance(content, str):
        buffer.write(content.encode())
    else:
        try:
            content(buffer)
        except RuntimeError as error:  # torch's, in place of what the buffer said
            if isinstance(error.__context__, MemoryError):
                raise MemoryError(str(path)) from error  # noqa: TRY004 - what it was
            raise
    partial = path.with_name(f".{path.name}.{uuid4().hex}{PARTIAL}")  # with the rights of any new file
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            file.write(buffer.getbuffer())
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror}. Make room or make it writable, or move the suite's folders with "
            "XMODAL_HOME."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink()  # is there still only if something went wrong


def remove_leftovers(folder: Path) -> None:
    """Remove the files that a kill left half-written in a folder and below; no other process may write there.

    Neither stays what Lightning saves on a signal of SLURM: a run would go on from there, in the midst of an epoch.
    """
    half = (f"{depth}.*.{'[0-9a-f]' * 32}{PARTIAL}" for depth in ("", "*/", "*/*/"))
    for pattern in (*half, "hpc_ckpt_*.ckpt"):
        for leftover in folder.glob(pattern):
            leftover.unlink(missing_ok=True)


def below(folder: Path, name: str, left_out: list[str]) -> list[Path]:
    """The files of a name in a folder and below, sorted, also behind links to other disks; each folder once.

    Args:
        folder: where to look.
        name: of the files.
        left_out: what is said of folders that cannot be read is added here.
    """
    found, seen = list[Path](), set[tuple[int, int]]()

    def unread(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):  # another process clears it just now
            left_out.append(f"{error.filename} cannot be read: {error.strerror}")

    for root, folders, files in os.walk(folder, onerror=unread, followlinks=True):
        place = Path(root)
        links = {each for each in folders if (place / each).is_symlink()}
        folders.sort(key=links.__contains__)  # the second name of a folder comes last
        with contextlib.suppress(FileNotFoundError):  # another process clears it just now
            status = place.stat()
            if (here := (status.st_dev, status.st_ino)) in seen:
                folders.clear()
            elif name in files:
                found.append(place / name)
            seen.add(here)
    return sorted(found)


def text_hash(text: str) -> str:
    """First 16 hex digits of the SHA-256 of a text, such as a resolved configuration."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]
