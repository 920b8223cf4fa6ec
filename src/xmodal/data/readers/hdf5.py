"""HDF5, and MATLAB's v7.3 files, which are HDF5 with marks: axes reversed, text as UTF-16, cells as references."""

import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from xmodal.data.readers import mat5
from xmodal.errors import UserError

Array = NDArray[Any]


def listed(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Name and shape of every array; a link that leads nowhere is none, nor what has bytes for a name."""
    with h5py.File(path) as file:
        return [
            (name, _shape(item))
            for name, item in file.items()
            if isinstance(name, str) and (isinstance(item, h5py.Dataset) or (item and "MATLAB_sparse" in item.attrs))
        ]


def _shape(item: Any) -> tuple[int, ...]:  # noqa: ANN401 - h5py has no types
    if isinstance(item, h5py.Group):
        return int(item.attrs["MATLAB_sparse"]), len(item["jc"]) - 1
    return tuple((item.shape or ())[:: -1 if "MATLAB_class" in item.attrs else 1])


def read(path: Path, key: str) -> Array:
    """An array: numbers, text as an object array of `str` by row, cells as an object array of those.

    Raises:
        UserError: it is of a MATLAB class that is not read, such as `string`.
    """
    with h5py.File(path) as file:
        return _value(file, file[key])


def _value(file: Any, item: Any, depth: int = 0) -> Array:  # noqa: ANN401
    kind = bytes(np.bytes_(item.attrs.get("MATLAB_class", b"")))
    if isinstance(item, h5py.Group):
        return _sparse(item)
    if kind in (b"string", b"struct", b"table") or "MATLAB_object_decode" in item.attrs or depth > mat5.DEEPEST:
        raise UserError(
            f"{item.name} in {file.filename} is of the MATLAB class {kind.decode()}, which cannot be read here: save "
            "numbers as matrices, and text as cellstr(...)."
        )
    for source in item.virtual_sources() if item.is_virtual else ():  # HDF5 would give zeros in silence
        name = source.file_name
        if (
            name != "."
            and "%" not in name
            and not any(Path(p, name).is_file() for p in (Path(file.filename).parent, "."))
        ):
            raise UserError(f"{item.name} in {file.filename} lies in another file, {name}, which is not there.")
    with _within(Path(file.filename).stat().st_size, item):
        array = np.asarray(item[()])
    if item.attrs.get("MATLAB_empty"):  # then it holds its own shape
        return np.zeros(0, object) if kind == b"char" else np.zeros(array.ravel().astype(int))
    if h5py.check_ref_dtype(item.dtype):  # a cell array
        cells = np.empty(array.T.shape, object)
        for place, cell in np.ndenumerate(array.T):
            value = _value(file, file[cell], depth + 1)
            text = file[cell].attrs.get("MATLAB_class") == b"char" and len(value) < 2
            cells[place] = "".join(value) if text else value
        return cells
    if kind == b"char":
        units = (
            array.T.astype("<u2").reshape(-1, max(array.shape[0], 1)) if array.ndim > 1 else array.astype("<u2")[None]
        )
        texts = [row.tobytes().decode("utf-16-le", "replace") for row in units]
        return np.array(texts, object).reshape(array.T.shape[:-1] if array.ndim > 1 else -1)
    return array.T if kind else array


@contextmanager
def _within(size: int, item: Any) -> Iterator[None]:  # noqa: ANN401
    """Let text of any length take no more memory than the file can hold of it.

    HDF5 takes and clears as much memory as the length of a text says, before it looks for the text: seconds for each
    length that is damaged. Text is never compressed there.

    Args:
        size: of the file, in bytes.
        item: a dataset.
    """
    if h5py.check_vlen_dtype(item.dtype) is None or not sys.platform.startswith("linux"):
        yield
        return
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = used + 2 * size + 200 * item.size + 2**28  # bytes: the text, a Python object each, and what else is read
    if before[0] == resource.RLIM_INFINITY or most < before[0]:
        resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def _sparse(group: Any) -> Array:  # noqa: ANN401
    ends = np.asarray(group["jc"])
    rows, values = (np.asarray(group[key]) if key in group else np.zeros(0, np.int64) for key in ("ir", "data"))
    return mat5.dense(values, rows, ends, int(group.attrs["MATLAB_sparse"]), len(ends) - 1)
