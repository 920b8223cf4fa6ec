"""Many strings on disk, read one by one without holding them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np


class Strings:
    """Strings as one run of bytes and the places where each ends, both memory-mapped.

    Args:
        folder: of `names.npy` and `ends.npy`.
    """

    def __init__(self, folder: Path) -> None:
        self.content = np.load(folder / "names.npy", mmap_mode="r")
        self.ends = np.load(folder / "ends.npy", mmap_mode="r")

    @staticmethod
    def write(folder: Path, strings: Sequence[str]) -> None:
        """Write the two files."""
        parts = [text.encode() for text in strings]
        np.save(folder / "names.npy", np.frombuffer(b"".join(parts) or b"\0", np.uint8))
        np.save(folder / "ends.npy", np.cumsum([len(part) for part in parts], dtype=np.int64))

    def __getitem__(self, place: int) -> str:
        start = int(self.ends[place - 1]) if place else 0
        return bytes(self.content[start : int(self.ends[place])]).decode()

    def __len__(self) -> int:
        return len(self.ends)
