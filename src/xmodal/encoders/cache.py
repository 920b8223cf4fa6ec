"""Frozen features on disk: computed once, memory-mapped afterwards, replaced by a rename and so never half-written."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from xmodal.errors import UserError

Arrays = dict[str, NDArray[np.generic]]


def digest(key: Mapping[str, object]) -> str:
    """The first 16 hex digits of the SHA-256 of `key` written as canonical JSON."""
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def cached(
    folder: Path, name: str, key: Mapping[str, object], build: Callable[[], Mapping[str, NDArray[np.generic]]]
) -> Arrays:
    """Memory-mapped arrays of `folder/<name>-<digest of key>`, built by `build` where they are missing.

    Args:
        folder: where the caches of one dataset lie.
        name: readable part of the cache's name, such as the encoder's.
        key: everything that changes the values; another key is another cache.
        build: gives the arrays by name; called under a lock, by one process only.

    Raises:
        UserError: a file of the cache is damaged, or the folder cannot be written.
    """
    final = folder / f"{name}-{digest(key)}"
    if not final.is_dir():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / f".{final.name}.lock").acquire()
        except OSError as error:
            raise UserError(
                f"cannot write the feature cache: {error}. Make {folder} a writable folder, or name another one "
                "in XMODAL_DATA."
            ) from error
        with lock:
            if not final.is_dir():
                _write(final, key, build())
    return {path.stem: _open(path) for path in sorted(final.glob("*.npy"))}


def _write(final: Path, key: Mapping[str, object], arrays: Mapping[str, NDArray[np.generic]]) -> None:
    partial = final.with_name(f".{final.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # what a killed process left; the lock says that nobody else writes
    partial.mkdir()
    for stem, array in arrays.items():
        np.save(partial / f"{stem}.npy", array)
    (partial / "key.json").write_text(json.dumps(key, indent=1, sort_keys=True))
    partial.replace(final)


def _open(path: Path) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise UserError(
            f"the cached features {path} are damaged ({error}). Delete the folder {path.parent} and run again."
        ) from error
    return array
