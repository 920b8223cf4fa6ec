"""Frozen features on disk: computed once, memory-mapped afterwards, replaced by a rename and so never half-written."""

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray

from xmodal.errors import UserError
from xmodal.progress import bar

Arrays = dict[str, NDArray[np.generic]]
Item = TypeVar("Item")
Held = TypeVar("Held", covariant=True)
Encode = Callable[[list[Item]], Mapping[str, NDArray[np.generic]]]
AHEAD = 2  # chunks that are decoded while another is encoded
TASK = 8  # items that a thread reads at a time
WHOLE = "arrays"  # in key.json: all that a cache holds
SAVED = 8  # chunks between two marks that a killed run goes on from


class Indexed(Protocol[Held]):
    """What is read one by one: a list, or pictures that are decoded when they are asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, position: int, /) -> Held: ...


def location(folder: Path, name: str, key: Mapping[str, object]) -> Path:
    """The folder of a cache, `folder/<name>-<first 16 hex digits of the SHA-256 of key as canonical JSON>`."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder / f"{name}-{digest[:16]}"


def cached(
    folder: Path, name: str, key: Mapping[str, object], build: Callable[[], Mapping[str, NDArray[np.generic]]]
) -> Arrays:
    """Memory-mapped arrays of a cache (see `location`), built by `build` where they are missing.

    Args:
        folder: where the caches of one dataset lie.
        name: readable part of the cache's name, such as the encoder's.
        key: everything that changes the values; another key is another cache.
        build: gives the arrays by name; called under a lock, by one process only.

    Raises:
        UserError: a file of the cache is damaged, or the folder cannot be written.
    """
    final = location(folder, name, key)
    with _missing(final) as partial:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)  # what a killed process left; the lock says nobody else writes
            partial.mkdir()
            arrays = build()
            with _writing(final.parent):
                for stem, array in arrays.items():
                    np.save(partial / f"{stem}.npy", array)
            _finish(partial, final, key)
    return _mapped(final)


def encoded(
    folder: Path,
    name: str,
    key: Mapping[str, object],
    items: Indexed[Item | None],
    opened: Callable[[], Encode[Item]],
    keep: Sequence[str] = (),
    chunk: int = 64,
) -> Arrays:
    """As `cached`, for an encoder that takes its items chunk by chunk: a killed run goes on where it was.

    The next chunks are read by threads (pictures are decoded there) while one is encoded.

    Args:
        folder: where the caches of one dataset lie.
        name: readable part of the cache's name, and of the progress bar.
        key: everything that changes the values; another key is another cache.
        items: N of them; one that is None (a corrupt picture) gets a row of zeros and is marked in `missing` (N,).
        opened: loads the encoder; called only where something is left to encode.
        keep: which of the encoder's arrays to keep; none named: all.
        chunk: items per call of the encoder.

    Raises:
        UserError: a file of the cache is damaged, the folder cannot be written, or a number is not finite.
    """
    final = location(folder, name, key)
    with _missing(final) as partial:
        if partial:
            # A trunk draws weights before it loads its own: a run that encodes must draw as one that finds features.
            with torch.random.fork_rng(devices=[]):
                _encode(partial, name, items, opened, keep, chunk)
            _finish(partial, final, key)
    return _mapped(final)


def _encode(
    partial: Path, name: str, items: Indexed[Item | None], opened: Callable[[], Encode[Item]], keep: Sequence[str],
    chunk: int,
) -> None:  # fmt: skip
    done, mark = 0, partial / "done"
    if mark.is_file():
        done = int(mark.read_text())
    else:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
    kept = {path.stem: _open(path) for path in partial.glob("*.npy")}  # "r+" would fill up a file that is cut
    arrays: dict[str, Any] = {stem: np.load(partial / f"{stem}.npy", mmap_mode="r+") for stem in kept}
    encode = opened()
    shown = bar(total=len(items), initial=done, desc=f"{name} encodes", unit="item")
    for number, (start, rows) in enumerate(_read_ahead(items, done, chunk), 1):
        present = [row for row in rows if row is not None]
        outputs = dict(encode(present)) if present else {}
        outputs = {stem: array for stem, array in outputs.items() if not keep or stem in keep}
        for array in outputs.values():
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise UserError(
                    f"{name} gives NaN, or numbers beyond {array.dtype}, for one of the items {start} to "
                    f"{start + len(rows) - 1}: choose another encoder."
                )
        if not arrays and outputs:
            shapes = {stem: ((len(items), *array.shape[1:]), array.dtype) for stem, array in outputs.items()}
            shapes["missing"] = ((len(items),), np.dtype(np.bool_))
            with _writing(partial.parent):
                for stem, (shape, dtype) in shapes.items():
                    arrays[stem] = _allocated(partial / f"{stem}.npy", shape, dtype)
            arrays["missing"][:start] = True  # whole chunks of corrupt items came first
        where = start + np.flatnonzero([row is not None for row in rows])
        for stem, array in outputs.items():
            arrays[stem][where] = array
        if arrays:
            arrays["missing"][start + np.flatnonzero([row is None for row in rows])] = True
        shown.update(len(rows))
        if arrays and number % SAVED == 0:
            for array in arrays.values():
                array.flush()
            _write_mark(mark, start + len(rows))
    shown.close()
    if not arrays:
        raise UserError(f"{name}: none of the {len(items)} items can be encoded.")
    for array in arrays.values():
        array.flush()
    mark.unlink(missing_ok=True)


def _read_ahead(items: Indexed[Item | None], done: int, chunk: int) -> Iterator[tuple[int, list[Item | None]]]:
    def read(rows: range) -> list[Item | None]:
        return [items[row] for row in rows]

    with ThreadPoolExecutor(max_workers=min(os.cpu_count() or 1, 16)) as pool:
        waiting: deque[tuple[int, list[Future[list[Item | None]]]]] = deque()
        try:
            for start in range(done, len(items) + AHEAD * chunk, chunk):
                rows = range(start, min(start + chunk, len(items)))
                if rows:
                    waiting.append((start, [pool.submit(read, rows[k : k + TASK]) for k in range(0, len(rows), TASK)]))
                if waiting and (len(waiting) > AHEAD or not rows):
                    first, futures = waiting.popleft()
                    yield first, [item for future in futures for item in future.result()]
        finally:
            pool.shutdown(cancel_futures=True)


def _write_mark(mark: Path, rows: int) -> None:
    written = mark.with_name("done.partial")
    written.write_text(str(rows))
    written.replace(mark)


def _allocated(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[np.generic]:
    """A new memory map that has its room on the disk: on a full one, writing through it would kill the process."""
    array: NDArray[np.generic] = np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return array


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """Say in one line that the caches of a folder cannot be written."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write the feature cache: {error}. Make {folder} a writable folder with room, or name another one "
            "in XMODAL_DATA."
        ) from error


@contextmanager
def _missing(final: Path) -> Iterator[Path | None]:
    """The folder to build in, under a lock; None where the cache is there already."""
    if final.is_dir():
        yield None
        return
    with _writing(final.parent):
        final.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(final.parent / f".{final.name}.lock").acquire()
    with lock:
        yield None if final.is_dir() else final.with_name(f".{final.name}.partial")


def _finish(partial: Path, final: Path, key: Mapping[str, object]) -> None:
    whole = sorted(path.stem for path in partial.glob("*.npy"))
    (partial / "key.json").write_text(json.dumps({**key, WHOLE: whole}, indent=1, sort_keys=True))
    partial.replace(final)


def _mapped(final: Path) -> Arrays:
    arrays = {path.stem: _open(path) for path in sorted(final.glob("*.npy"))}
    try:
        whole = json.loads((final / "key.json").read_text()).get(WHOLE, ())  # older caches do not say
    except (OSError, ValueError):
        whole = ["key.json"]
    if lacking := ", ".join(sorted({*whole} - arrays.keys())):  # tokens without their mask would be other numbers
        raise UserError(f"the cached features {final} lack {lacking}: a copy ended early. Delete it and run again.")
    return arrays


def _open(path: Path) -> NDArray[np.generic]:
    try:
        array: NDArray[np.generic] = np.load(path, mmap_mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise UserError(
            f"the cached features {path} are damaged ({error}). Delete the folder {path.parent} and run again."
        ) from error
    return array
