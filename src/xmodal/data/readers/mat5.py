"""MATLAB's files up to v7 (level 5), in which no length is believed before it is checked.

A damaged file ends the process inside scipy's compiled reader; this one reads what datasets hold (numbers, text, cells,
sparse matrices) and refuses the rest. Layout after "MAT-File Format" of The MathWorks.
"""

import zlib
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from xmodal.errors import UserError

Array = NDArray[Any]
HEADER, HEAD, DEEPEST = 128, 4096, 8  # bytes of the file's header, bytes that hold a variable's name, cells in cells
MATRIX, COMPRESSED = 14, 15  # kinds of elements
STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # ... of numbers
TEXT = {1: "latin-1", 2: "latin-1", 16: "utf-8", 18: "utf-32"}  # ... of text, beside UTF-16
CELL, CHAR, SPARSE, OPAQUE = 1, 4, 5, 17  # classes of variables
NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}


class Damaged(ValueError):  # noqa: N818 - what it says
    """The file contradicts itself."""


def listed(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Name and shape of every variable.

    Raises:
        Damaged: the file is truncated or contradicts itself.
    """
    with path.open("rb") as file:
        for _, _, head in _variables(file):
            yield head.name, head.shape


def read(path: Path, name: str) -> Array:
    """A variable: numbers in their shape, text as an object array of `str` by row, cells as an object array of those.

    Raises:
        Damaged: the file is truncated or contradicts itself.
        UserError: the variable is of a class that is not read, such as MATLAB's `string`.
    """
    with path.open("rb") as file:
        for kind, size, head in _variables(file):
            if head.name == name:
                content = file.read(size)
                whole = _unpacked(content, head.elements.order) if kind == COMPRESSED else content
                return Variable(Elements(memoryview(whole), head.elements.order)).value(f"{name} in {path}")
    raise Damaged(f"no variable {name}")


def _variables(file: BinaryIO) -> Iterator[tuple[int, int, "Variable"]]:
    """Kind, size and head of every variable; the file stands at its content."""
    header, end = file.read(HEADER), file.seek(0, 2)
    order = {b"IM": "<", b"MI": ">"}.get(header[126:128])
    if order is None:
        raise Damaged("no header of a MATLAB file")
    place = HEADER
    while place < end:
        file.seek(place)
        tag = np.frombuffer(file.read(8), f"{order}u4")
        if len(tag) < 2 or place + 8 + int(tag[1]) > end:
            raise Damaged("it is truncated")
        kind, size = map(int, tag)
        start = file.read(min(size, HEAD))
        if kind == COMPRESSED:
            start = zlib.decompressobj().decompress(start, HEAD)[8:]
        elif kind != MATRIX:
            raise Damaged(f"an element of kind {kind} where a variable is expected")
        head = Variable(Elements(memoryview(start), order))
        file.seek(place + 8)
        if head.name:  # MATLAB's own data about objects have none
            yield kind, size, head
        place += 8 + size


def _unpacked(content: bytes, order: str) -> bytes:
    """A compressed variable without its tag."""
    packed = zlib.decompressobj()
    kind, size = map(int, np.frombuffer(packed.decompress(content, 8).ljust(8, b"\0"), f"{order}u4"))
    whole = packed.decompress(packed.unconsumed_tail, size + 1)
    if kind != MATRIX or len(whole) != size or not packed.eof:  # then its checksum was read and fits
        raise Damaged("a compressed variable is not as long as it says")
    return whole


class Elements:
    """The elements of a variable, one after another.

    Args:
        data: their bytes.
        order: `<` or `>`.
    """

    def __init__(self, data: memoryview, order: str) -> None:
        self.data, self.order, self.place = data, order, 0

    def next(self) -> tuple[int, memoryview]:
        """Kind and bytes of the next element."""
        tag = np.frombuffer(self.data[self.place : self.place + 8], "u1").tobytes()
        if len(tag) < 8:
            raise Damaged("a variable ends too early")
        first, size = (int(number) for number in np.frombuffer(tag, f"{self.order}u4"))
        kind, start = first, self.place + 8
        if first >> 16:  # up to four bytes lie in the tag itself
            kind, size, start = first & 0xFFFF, first >> 16, self.place + 4
            if size > 4:
                raise Damaged(f"{size} bytes in a small element")
            self.place += 8
        else:
            self.place = start + size + (-size % 8)
        if start + size > len(self.data):
            raise Damaged("a variable ends too early")
        return kind, self.data[start : start + size]

    def numbers(self) -> Array:
        """The next element, of numbers."""
        kind, data = self.next()
        if kind not in STORED or len(data) % np.dtype(STORED[kind]).itemsize:
            raise Damaged(f"{len(data)} bytes of kind {kind} where numbers are expected")
        return np.frombuffer(data, self.order + STORED[kind])


class Variable:
    """A variable whose head is read: its class, shape and name.

    Args:
        elements: its elements from the first on; what comes after the head is read by `value`.
    """

    def __init__(self, elements: Elements) -> None:
        flags = elements.numbers()
        if len(flags) != 2 or flags.dtype.kind not in "iu":
            raise Damaged("no flags of a variable")
        self.elements, self.kind = elements, int(flags[0]) & 0xFF
        self.logical, self.complex = bool(int(flags[0]) & 0x200), bool(int(flags[0]) & 0x800)
        dims = np.zeros(2, np.int32) if self.kind == OPAQUE else elements.numbers()
        if dims.dtype.kind not in "iu" or not 2 <= len(dims) <= 32 or dims.min() < 0:
            raise Damaged(f"a shape of {dims[:32].tolist()}")
        self.shape: tuple[int, ...] = tuple(map(int, dims))
        self.name = bytes(elements.next()[1]).decode("latin-1")

    def value(self, what: str, depth: int = 0) -> Array:
        """The content; see `read`."""
        if self.kind in NUMBERS and not self.complex:
            array = self.elements.numbers()  # often stored in a smaller type
            small = NUMBERS[self.kind] == "f8" and array.dtype.kind in "iu" and array.itemsize <= 2
            array = array.astype("f4" if small else NUMBERS[self.kind])
            return self._shaped(array.astype(bool) if self.logical else array)
        if self.kind == CHAR:
            return self._text()
        if self.kind == SPARSE and not self.complex:
            return self._dense()
        if self.kind == CELL and depth < DEEPEST:
            count = prod(self.shape)
            if count > len(self.elements.data) // 8:
                raise Damaged(f"{count} cells in {len(self.elements.data)} bytes")
            cells = np.empty(count, object)
            for place in range(count):
                cells[place] = self._cell(f"a cell of {what}", depth)
            return self._shaped(cells)
        raise UserError(
            f"{what} is of a MATLAB class that cannot be read here (string, struct, complex ...): save numbers as real "
            "matrices, and text as cellstr(...)."
        )

    def _cell(self, what: str, depth: int) -> Any:  # noqa: ANN401 - an array, or text
        kind, data = self.elements.next()
        if kind != MATRIX:
            raise Damaged(f"an element of kind {kind} in a cell")
        if not data:
            return np.zeros((0, 0))
        inner = Variable(Elements(data, self.elements.order))
        value = inner.value(what, depth + 1)
        return value if inner.kind != CHAR or len(value) > 1 else "".join(value)

    def _shaped(self, array: Array) -> Array:
        if array.size != prod(self.shape):
            raise Damaged(f"{array.size} values in a shape of {self.shape}")
        return array.reshape(self.shape, order="F")

    def _text(self) -> Array:
        """Rows of UTF-16 units, or of characters where those are what the shape counts."""
        kind, data = self.elements.next()
        if kind not in TEXT and kind not in (3, 4, 17):
            raise Damaged(f"text in an element of kind {kind}")
        wide = "utf-16-le" if self.elements.order == "<" else "utf-16-be"
        text = bytes(data).decode(TEXT.get(kind, wide), "surrogatepass" if kind not in TEXT else "strict")
        rows = prod(self.shape[:-1])  # the characters of a text lie along the last axis
        if rows == 1:
            return np.array([_valid(text)], object)
        for encoding, unit in (("utf-16-le", "<u2"), ("utf-32-le", "<u4")):
            units = np.frombuffer(text.encode(encoding, "surrogatepass"), unit)
            if len(units) == prod(self.shape):
                table = units.reshape(self.shape, order="F").reshape(rows, self.shape[-1])
                texts = [row.tobytes().decode(encoding, "replace") for row in table]
                return np.array(texts, object).reshape(self.shape[:-1])
        raise Damaged(f"{len(text)} characters in a shape of {self.shape}")

    def _dense(self) -> Array:
        rows, ends = self.elements.numbers(), self.elements.numbers()
        if self.logical:  # in bytes, whatever the element says
            values = np.frombuffer(self.elements.next()[1], np.uint8).astype(bool)
        else:
            values = self.elements.numbers()
        return dense(values, rows, ends, self.shape[0], self.shape[1])


def _valid(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def dense(values: Array, rows: Array, ends: Array, height: int, width: int) -> Array:
    """A sparse matrix as MATLAB stores it, column by column, as an array (height, width).

    Args:
        values: of the entries.
        rows: of the entries, from 0.
        ends: (width + 1,) where each column begins and ends among the entries.
        height: number of rows.
        width: number of columns.

    Raises:
        Damaged: these contradict each other.
    """
    if any(array.dtype.kind not in "iub" for array in (rows, ends)) or len(ends) != width + 1:
        raise Damaged("a sparse matrix whose columns do not fit")
    ends, used = ends.astype(np.int64), int(ends[-1])
    if ends[0] != 0 or (np.diff(ends) < 0).any() or not used <= min(len(rows), len(values)):
        raise Damaged("a sparse matrix whose columns do not follow each other")
    rows, values = rows[:used].astype(np.int64), values[:used].astype(values.dtype.newbyteorder("="))
    if used and not 0 <= rows.min() <= rows.max() < height:
        raise Damaged("a sparse matrix with an entry outside")
    return np.asarray(scipy.sparse.csc_array((values, rows, ends), (height, width)).toarray())
