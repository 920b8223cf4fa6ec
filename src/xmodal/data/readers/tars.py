"""The members of a tar, to its end: `tarfile` takes a file that a copy has cut for one that ends there."""

import tarfile
from collections.abc import Iterator
from pathlib import Path


def members(path: Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Each member, with the archive that reads it.

    Raises:
        ValueError: the archive has no end, or what follows a member is none.
    """
    with tarfile.open(path) as archive:
        for member in archive:
            yield archive, member
        archive.fileobj.seek(archive.offset)
        if archive.fileobj.read(512) != bytes(512):
            raise ValueError("it lacks the empty block of its end: copy it again")
