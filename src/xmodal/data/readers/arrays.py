"""Array files as the field hands them around, read one way: .mat (v5 and v7.3), .h5/.hdf5/.h5py, .npy, .npz and .pkl.

Axes: MATLAB stores a v7.3 matrix column by column, so every other reader sees its axes reversed. That is undone where
the dataset carries MATLAB's own mark (`MATLAB_class`), and nowhere else.
"""

import pickle
import zipfile
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import scipy.io
from numpy.typing import NDArray

from xmodal.data.readers import hdf5, mat5
from xmodal.data.readers.text import one_line, whole
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
            UserError: the file is damaged, or holds something else than numbers, text and cells of them.
        """
        array: Array = _guarded(self.path, lambda: _text(READERS[self.path.suffix.lower()][1](self.path, self.key)))
        return array

    def __str__(self) -> str:
        return f"{self.shown} {'x'.join(map(str, self.shape))} in {self.path.name}"

    @property
    def shown(self) -> str:
        """The key in one line, whatever a damaged file makes of it."""
        return self.key if self.key.isprintable() else ascii(self.key)


def variables(root: Path, match: str = "") -> dict[str, Variable]:
    """Every array in the files of a folder (not of its subfolders), by key.

    Args:
        root: the folder.
        match: where several files hold the same key, those with this in their name are meant.

    Raises:
        UserError: a file is damaged or a link that leads nowhere, or a key is in several files.
    """
    found: dict[str, list[Variable]] = defaultdict(list)
    for path in sorted(root.iterdir()) if root.is_dir() else ():
        if path.suffix.lower() in READERS and path.is_symlink() and not path.exists():
            raise UserError(f"{path} is a link to {path.readlink()}, which is not there: mend or delete it.")
        if path.suffix.lower() in READERS and path.is_file():
            for variable in listed(path):
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


def listed(path: Path) -> list[Variable]:
    """Every array in a file.

    Raises:
        UserError: the file is damaged, or its name ends in none of those that are read.
    """
    if path.suffix.lower() not in READERS:
        raise UserError(f"{path} is no file of arrays: those end in {', '.join(READERS)}.")
    variables: list[Variable] = _guarded(path, partial(READERS[path.suffix.lower()][0], path))
    return variables


def _guarded(path: Path, read: Callable[[], Any]) -> Any:  # noqa: ANN401
    try:
        return read()
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory: {error}.") from error
    except UserError:
        raise
    except Exception as error:  # numpy, h5py, zipfile and pickle raise anything on a damaged file
        reason = str(error).partition("\n")[0] or type(error).__name__
        if isinstance(error, ValueError) and ("Object arrays" in reason or "Python objects" in reason):
            raise UserError(
                f"{path} holds an object array, which is a pickle and may run any program: save text with "
                "np.array(texts, str), numbers with a type of numbers."
            ) from error
        raise UserError(f"{path} is damaged or not what its name says ({reason}): download it again.") from error


def _is_hdf5(path: Path) -> bool:
    if h5py.is_hdf5(path):
        return True
    with path.open("rb") as file:
        header = file.read(20)
    if b"MATLAB 7.3" in header:
        raise ValueError("a MATLAB 7.3 header without the HDF5 file behind it")
    return False


def _is_level4(path: Path) -> bool:
    with path.open("rb") as file:
        return 0 in file.read(4)  # level 5 begins with text


def _mat_list(path: Path) -> list[Variable]:
    if _is_hdf5(path):
        return _hdf5_list(path)
    found = scipy.io.whosmat(path) if _is_level4(path) else mat5.listed(path)
    return [Variable(path, each[0], each[1]) for each in found]


def _mat_read(path: Path, key: str) -> Array:
    if _is_hdf5(path):
        return hdf5.read(path, key)
    return np.asarray(scipy.io.loadmat(path, variable_names=[key])[key]) if _is_level4(path) else mat5.read(path, key)


def _hdf5_list(path: Path) -> list[Variable]:
    return [Variable(path, name, shape) for name, shape in hdf5.listed(path)]


def _text(array: Array) -> Array:
    """Text as a flat object array: of `str` without padding, or of lists of them (a None keeps numpy from a matrix)."""
    if array.dtype.kind not in "OUS":
        return array
    flat = array.ravel() if array.ndim < 2 or 1 in array.shape else np.array([*map(list, array), None], object)[:-1]
    if not all(map(_is_text, flat)):
        return flat  # cells of matrices
    texts = np.empty(len(flat), object)
    for row, cell in enumerate(flat):
        parts = [_decoded(part).strip() for part in _leaves(cell)]
        texts[row] = parts if len(parts) > 1 else "".join(parts)
    return texts


def _is_text(cell: Any) -> bool:  # noqa: ANN401
    """Whether it is text; an empty matrix is empty text."""
    if isinstance(cell, np.ndarray) and cell.dtype.kind != "O":
        return cell.dtype.kind in "US" or not cell.size
    return isinstance(cell, (str, bytes)) or (isinstance(cell, (list, np.ndarray)) and all(map(_is_text, cell)))


def _leaves(cell: Any) -> list[str | bytes]:  # noqa: ANN401
    if isinstance(cell, (str, bytes)):
        return [cell]
    return [leaf for part in (cell.ravel() if isinstance(cell, np.ndarray) else cell) for leaf in _leaves(part)]


def _decoded(text: str | bytes) -> str:
    return whole(text) if isinstance(text, str) else one_line(text)


def _npy_shape(file: IO[bytes]) -> tuple[int, ...]:
    first = np.lib.format.read_magic(file) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape: tuple[int, ...] = read(file)[0]
    return shape


def _npy_list(path: Path) -> list[Variable]:
    with path.open("rb") as file:
        return [Variable(path, path.stem, _npy_shape(file))]


def _npy_read(path: Path, key: str) -> Array:
    array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    return array


def _npz_list(path: Path) -> list[Variable]:
    found = []
    with zipfile.ZipFile(path) as archive:
        if len(set(names := archive.namelist())) < len(names):
            raise UserError(f"{path} holds two arrays of one name: save it anew.")
        for name in names:
            if name.endswith(".npy"):
                with archive.open(name) as file:
                    found.append(Variable(path, name.removesuffix(".npy"), _npy_shape(file)))
    return found


def _npz_read(path: Path, key: str) -> Array:
    with path.open("rb") as handle, np.load(handle, allow_pickle=False) as file:
        return np.asarray(file[key])


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
    return _pkl(path)[key]


READERS: dict[str, tuple[Callable[[Path], list[Variable]], Callable[[Path, str], Array]]] = {
    ".mat": (_mat_list, _mat_read),
    ".h5": (_hdf5_list, hdf5.read),
    ".hdf5": (_hdf5_list, hdf5.read),
    ".h5py": (_hdf5_list, hdf5.read),
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


def finite(array: Array, what: str) -> Array:
    """The array itself, of numbers that float32 holds.

    Raises:
        UserError: NaN or an infinity, with its row; or a number that float32 makes infinite.
    """
    if array.dtype.kind not in "biuf":
        raise UserError(f"{what} holds {array.dtype}: numbers are expected.")
    step = max(2**22 // max(array[:1].size, 1), 1)  # rows at a time, of arrays that lie on disk
    for start in range(0, len(array) if array.dtype.kind == "f" else 0, step):
        with np.errstate(over="ignore"):
            rows = np.asarray(array[start : start + step], np.float32).reshape(len(array[start : start + step]), -1)
        if not np.isfinite(rows).all():
            row, column = np.argwhere(~np.isfinite(rows))[0].tolist()
            raise UserError(f"{what} holds {array[start + row].ravel()[column]} in row {start + row}, counted from 0.")
    return array
