"""Array files as the field hands them around, read one way: .mat (v5 and v7.3), .h5/.hdf5/.h5py, .npy, .npz and .pkl.

Axes: MATLAB stores a v7.3 matrix column by column, so every other reader sees its axes reversed. That is undone where
the dataset carries MATLAB's own mark (`MATLAB_class`), and nowhere else.
"""

import os
import pickle
import struct
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from xmodal.errors import UserError

Array = NDArray[Any]


@dataclass(frozen=True)
class Variable:
    """A named array in a file, not read yet.

    Args:
        path: the file.
        key: its name in the file; the file's own name for .npy.
        shape: as `read` gives it.
    """

    path: Path
    key: str
    shape: tuple[int, ...]

    def read(self) -> Array:
        """The array, axes in the order its author saw; text comes as an object array of `str`, flattened.

        Raises:
            UserError: the file is damaged.
        """
        array: Array = _guarded(self.path, lambda: READERS[self.path.suffix.lower()][1](self.path, self.key))
        return array

    def __str__(self) -> str:
        return f"{self.key} {'x'.join(map(str, self.shape))} in {self.path.name}"


def variables(root: Path, match: str = "") -> dict[str, Variable]:
    """Every array in the files of a folder (not of its subfolders), by key.

    Args:
        root: the folder.
        match: where several files hold the same key, those with this in their name are meant.

    Raises:
        UserError: a file is damaged, or a key is in several files.
    """
    found: dict[str, list[Variable]] = defaultdict(list)
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.suffix.lower() in READERS and path.is_file():
            for variable in _guarded(path, partial(READERS[path.suffix.lower()][0], path)):
                found[variable.key].append(variable)
    chosen = {}
    for key, several in found.items():
        named = [v for v in several if match and match in v.path.name.lower()] or several
        if len(named) > 1:
            raise UserError(
                f"{key!r} is in several files of {root}: {', '.join(v.path.name for v in named)}. Keep one variant in "
                "a folder and name it with --data.root."
            )
        chosen[key] = named[0]
    return chosen


def _guarded(path: Path, read: Callable[[], Any]) -> Any:  # noqa: ANN401
    try:
        return read()
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory: {error}.") from error
    except UserError:
        raise
    except Exception as error:  # scipy, h5py and pickle raise anything on a damaged file
        raise UserError(f"{path} is damaged or not what its name says ({error}): download it again.") from error


def _is_hdf5(path: Path) -> bool:
    if h5py.is_hdf5(path):
        return True
    with path.open("rb") as file:
        header = file.read(20)
    if b"MATLAB 7.3" in header:
        raise ValueError("a MATLAB 7.3 header without the HDF5 file behind it")
    return False


def _mat_list(path: Path) -> list[Variable]:
    if _is_hdf5(path):
        return _h5_list(path)
    _whole(path)
    return [Variable(path, name, shape) for name, shape, _ in scipy.io.whosmat(path)]


def _whole(path: Path) -> None:
    """Refuse a truncated version 5 file, which scipy lists without a word as far as it goes."""
    size = path.stat().st_size
    with path.open("rb") as file:
        header = file.read(128)
        order = "<" if header[126:] == b"IM" else ">"
        while header.startswith(b"MATLAB 5.0") and file.tell() < size:
            tag = file.read(8)
            if len(tag) < 8 or file.seek(struct.unpack(f"{order}I", tag[4:])[0], os.SEEK_CUR) > size:
                raise ValueError("it is truncated")


def _mat_read(path: Path, key: str) -> Array:
    if _is_hdf5(path):
        return _h5_read(path, key)
    return _text(scipy.io.loadmat(path, variable_names=[key])[key])


def _h5_list(path: Path) -> list[Variable]:
    with h5py.File(path) as file:
        arrays = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        return [Variable(path, name, _h5_shape(item)) for name, item in arrays.items()]


def _h5_shape(item: Any) -> tuple[int, ...]:  # noqa: ANN401 - h5py has no types
    return tuple(item.shape[::-1] if "MATLAB_class" in item.attrs else item.shape)


def _h5_read(path: Path, key: str) -> Array:
    with h5py.File(path) as file:
        return _text(_h5_value(file, file[key]))


def _h5_value(file: Any, item: Any) -> Array:  # noqa: ANN401
    array = np.asarray(item[()])
    kind = item.attrs.get("MATLAB_class")
    if array.dtype == object and h5py.check_ref_dtype(item.dtype):  # a cell array
        cells = np.empty(array.size, object)
        cells[:] = [_h5_value(file, file[cell]) for cell in array.T.ravel()]
        return cells
    if array.dtype == object:  # strings of h5py
        return np.array([cell.decode() if isinstance(cell, bytes) else str(cell) for cell in array.ravel()], object)
    if kind == b"char":
        rows = array.T.reshape(-1, array.shape[0]) if array.ndim == 2 else array.reshape(1, -1)
        return np.array(["".join(map(chr, row)) for row in rows], object)
    return array.T if kind is not None else array


def _text(array: Array) -> Array:
    """Text as a flat object array: of `str` without padding, or of lists of `str` where a pair has several."""
    if array.dtype.kind not in "OUS":
        return array
    if array.dtype.kind in "US":
        rows = array.reshape(len(array), -1) if array.ndim > 1 and 1 not in array.shape else array.reshape(-1, 1)
        cells: list[Any] = [[str(cell).strip() for cell in row] for row in rows]
    else:
        flat = array.ravel() if array.ndim < 2 or 1 in array.shape else np.array([*map(list, array), None], object)[:-1]
        if any(np.asarray(cell).dtype.kind not in "OUS" for cell in flat):
            return flat  # cells of matrices
        cells = [[str(part).strip() for part in _leaves(cell)] for cell in flat]
    texts = np.empty(len(cells), object)
    texts[:] = [cell[0] if len(cell) == 1 else cell for cell in cells]
    return texts


def _leaves(cell: Any) -> list[Any]:  # noqa: ANN401
    if isinstance(cell, (str, bytes)):
        return [cell.decode() if isinstance(cell, bytes) else cell]
    return [leaf for part in (cell.ravel() if isinstance(cell, np.ndarray) else cell) for leaf in _leaves(part)]


def _npy_list(path: Path) -> list[Variable]:
    return [Variable(path, path.stem, np.load(path, mmap_mode="r", allow_pickle=False).shape)]


def _npy_read(path: Path, key: str) -> Array:
    return _text(np.load(path, mmap_mode="r", allow_pickle=False))


def _npz_list(path: Path) -> list[Variable]:
    with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
        return [Variable(path, name, file[name].shape) for name in file.files]


def _npz_read(path: Path, key: str) -> Array:
    with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
        return _text(file[key])


class _ArraysOnly(pickle.Unpickler):
    """A pickle may run anything; only what rebuilds numpy arrays is let through."""

    allowed = frozenset({"_reconstruct", "ndarray", "dtype", "scalar", "_frombuffer", "encode"})

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        if name in self.allowed and module.split(".")[0] in ("numpy", "_codecs"):
            return super().find_class(module, name)
        raise UserError(f"the pickle wants {module}.{name}, which is no array: such a file may run any program.")


def _pkl(path: Path) -> Mapping[str, Array]:
    with path.open("rb") as file:
        held = _ArraysOnly(file).load()
    if not isinstance(held, dict):
        raise TypeError(f"holds a {type(held).__name__}, not a dictionary of arrays")
    prefix = path.stem  # CLIP4CMR's clip_train.pkl and clip_test.pkl hold the same keys
    return {f"{prefix}.{name}": np.asarray(value) for name, value in held.items()}


def _pkl_list(path: Path) -> list[Variable]:
    return [Variable(path, name, array.shape) for name, array in _pkl(path).items()]


def _pkl_read(path: Path, key: str) -> Array:
    return _text(_pkl(path)[key])


READERS: dict[str, tuple[Callable[[Path], list[Variable]], Callable[[Path, str], Array]]] = {
    ".mat": (_mat_list, _mat_read),
    ".h5": (_h5_list, _h5_read),
    ".hdf5": (_h5_list, _h5_read),
    ".h5py": (_h5_list, _h5_read),
    ".npy": (_npy_list, _npy_read),
    ".npz": (_npz_list, _npz_read),
    ".pkl": (_pkl_list, _pkl_read),
}


def pairs_axis(arrays: Mapping[str, Array]) -> int:
    """The number of pairs: the one length that every array has an axis of.

    Args:
        arrays: by what they are called in messages.

    Raises:
        UserError: no such length, or several and the first axes differ.
    """
    common = set.intersection(*(set(array.shape) for array in arrays.values()))
    shapes = ", ".join(f"{name} {'x'.join(map(str, array.shape))}" for name, array in arrays.items())
    if not common:
        raise UserError(f"the arrays do not belong together, no axis has the same length in all: {shapes}.")
    first = {array.shape[0] for array in arrays.values()}
    if len(common) > 1 and len(first) > 1:
        raise UserError(
            f"which axis counts the pairs cannot be told from {shapes}: transpose them so that it is first."
        )
    return int(first.pop() if len(first) == 1 else common.pop())


def pairs_first(array: Array, pairs: int) -> Array:
    """The array with the axis of length `pairs` in front."""
    return array if array.shape[0] == pairs else np.moveaxis(array, array.shape.index(pairs), 0)
