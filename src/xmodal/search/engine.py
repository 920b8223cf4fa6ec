"""FAISS under one order: (distance, row), always; a place without a hit is not returned.

M. Douze et al., "The Faiss library", 2024 (arXiv:2401.08281).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from xmodal.errors import UserError
from xmodal.progress import bar
from xmodal.search.scan import nearest, ordered

Array = NDArray[Any]
Kind = Literal["flat", "ivf", "hnsw", "multihash"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CHUNK = 65_536  # rows that are added between two steps of the progress bar
TIED = 64  # further embeddings that are fetched, so that equal ones at the last place are ordered among themselves
PROBES = 32  # lists of an IVF that are searched
NEIGHBOURS, EFFORT = 32, 128  # of a node of HNSW; candidates while it is built and searched
SLICE = 16  # bits of a hash of the multi-hash index
EXACT = "flat"


class Found(NamedTuple):
    """Hits of B queries, row by row in the order (distance, row).

    Attributes:
        rows: (B, k) int64; -1 behind the last hit.
        distances: (B, k) int32 Hamming distances, or float32 1 - cosine.
        counts: (B,) hits of each query.
    """

    rows: Array
    distances: Array
    counts: Array


def faiss() -> Any:  # noqa: ANN401 - the module, which has no types
    """The library.

    Raises:
        UserError: it is not installed.
    """
    try:
        import faiss as found
    except ImportError as error:
        raise UserError("FAISS is not installed: run `make setup`, or `pip install 'xmodal[search]'`.") from error
    return found


def build(kind: Kind, rows: Array, *, progress: bool = True) -> Any:  # noqa: ANN401 - an index of FAISS
    """Index N codes, (N, bytes) uint8, or N embeddings, (N, dim) float32 of length 1.

    Args:
        kind: `flat` is exact; `ivf`, `hnsw` and `multihash` are approximate; embeddings take `flat` and `hnsw`.
        rows: what is searched; may be a memory map.
        progress: show a bar where it takes long.

    Raises:
        UserError: the kind is unknown, or not for embeddings.
    """
    binary = rows.dtype == np.uint8
    makers = _BINARY if binary else _REAL
    if kind not in makers:
        raise UserError(f"kind is {kind!r}: {'codes' if binary else 'embeddings'} take {', '.join(makers)}.")
    index = makers[kind](rows)
    shown = bar(total=len(rows), desc=f"{kind} index", unit="row", disable=None if progress else True)
    for start in range(0, len(rows), CHUNK):
        index.add(np.ascontiguousarray(rows[start : start + CHUNK]))
        shown.update(min(CHUNK, len(rows) - start))
    shown.close()
    return index


def write(index: Any, path: Path) -> None:  # noqa: ANN401 - an index of FAISS
    """Write an index; FAISS itself reads it too.

    Raises:
        UserError: the disk is full, or the folder is not to be written.
    """
    library = faiss()
    put = library.write_index_binary if isinstance(index, library.IndexBinary) else library.write_index
    try:
        put(index, str(path))
    except RuntimeError as error:
        raise UserError(f"cannot write {path}: {_reason(error)}. Make room or make it writable.") from error


class Engine:
    """An index of FAISS, memory-mapped where its kind lies in memory as in the file.

    Args:
        path: of the file.
        kind: see `build`.
        binary: whether it holds codes.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, path: Path, kind: Kind, *, binary: bool) -> None:
        library = faiss()
        read = library.read_index_binary if binary else library.read_index
        flag = library.IO_FLAG_MMAP_IFC if kind == EXACT else 0
        try:
            index = read(str(path), flag)
        except RuntimeError as error:
            raise UserError(f"{path} is damaged ({_reason(error)}): build the index again.") from error
        self.adopt(index, kind)

    @classmethod
    def of(cls, index: Any, kind: Kind) -> "Engine":  # noqa: ANN401 - an index of FAISS
        """One that was just built."""
        engine = cls.__new__(cls)
        engine.adopt(index, kind)
        return engine

    def adopt(self, index: Any, kind: Kind) -> None:  # noqa: ANN401 - an index of FAISS
        """Take an index, and how it is searched."""
        library = faiss()
        self.index, self.kind, self.size, self.width = index, kind, int(index.ntotal), int(index.d)
        self.effort = 0  # none is set yet
        self.binary = isinstance(index, library.IndexBinary)
        if kind == "ivf":
            index.nprobe = min(PROBES, index.nlist)
        elif kind == "multihash":
            index.nflip = 1
        if self.binary and kind == EXACT:
            octets = self.width // 8
            self.rows = library.rev_swig_ptr(index.xb.data(), self.size * octets).reshape(self.size, octets)
        if not self.binary:
            store = index if kind == EXACT else library.downcast_index(index.storage)
            self.rows = library.rev_swig_ptr(store.get_xb(), self.size * self.width).reshape(self.size, self.width)

    def search(self, queries: Array, k: int) -> Found:
        """The k nearest rows of each query.

        Args:
            queries: (B, width) as the rows that were indexed.
            k: hits of a query, at most; there are no more than rows.
        """
        k = min(k, self.size)
        if not self.binary:
            return self._embeddings(queries, k)
        if self.kind == EXACT and self.width % 64 == 0:
            return Found(*nearest(self.rows, queries, k), np.full(len(queries), k))
        if self.kind == "hnsw":
            self._look(max(EFFORT, k))
        distances, rows = self.index.search(queries, k)
        if self.kind == EXACT:  # FAISS keeps (distance, row) here; a test says so
            return Found(rows, distances, np.full(len(rows), k))
        counts = np.empty(len(rows), np.int64)
        ordered(distances, rows, counts)
        return Found(rows, distances, counts)

    def _look(self, effort: int) -> None:
        """Candidates of HNSW, set only where they change: FAISS takes 3 microseconds for it."""
        if effort != self.effort:
            self.index.hnsw.efSearch = self.effort = effort

    def _embeddings(self, queries: Array, k: int) -> Found:
        """FAISS chooses candidates; their cosines are summed again in double precision, where equal rows are equal."""
        wanted = min(k + TIED, self.size)
        if self.kind == "hnsw":
            self._look(max(EFFORT, wanted))
        while True:
            scores, rows = self.index.search(queries, wanted)
            if wanted == self.size or not (scores[:, k - 1] - scores[:, -1] < 1e-6).any():
                break
            wanted = min(4 * wanted, self.size)
        found = rows >= 0
        near = np.empty(rows.shape, np.float32)
        for query, some, out in zip(queries.astype(np.float64), rows, near, strict=True):
            out[:] = 1 - (self.rows[some].astype(np.float64) * query).sum(1)
        near[~found] = np.inf
        order = np.lexsort((rows, near), axis=1)[:, :k]
        return Found(
            np.take_along_axis(rows, order, 1), np.take_along_axis(near, order, 1), np.minimum(found.sum(1), k)
        )


def _ivf_codes(rows: Array) -> Any:  # noqa: ANN401 - an index of FAISS
    library, width = faiss(), 8 * rows.shape[1]
    lists = max(1, min(round(len(rows) ** 0.5), len(rows) // 39))  # FAISS wants 39 points for a centre
    quantizer = library.IndexBinaryFlat(width)
    index = library.IndexBinaryIVF(quantizer, width, lists)
    index.own_fields = True
    quantizer.this.disown()
    index.cp.niter, index.cp.seed = 10, 0
    some = np.linspace(0, len(rows) - 1, min(len(rows), 50 * lists)).astype(np.int64)
    index.train(np.ascontiguousarray(rows[some]))
    return index


def _hnsw(rows: Array) -> Any:  # noqa: ANN401 - an index of FAISS
    library = faiss()
    if rows.dtype == np.uint8:
        index = library.IndexBinaryHNSW(8 * rows.shape[1], NEIGHBOURS)
    else:
        index = library.IndexHNSWFlat(rows.shape[1], NEIGHBOURS, library.METRIC_INNER_PRODUCT)
    index.hnsw.efConstruction = EFFORT
    return index


def _multihash(rows: Array) -> Any:  # noqa: ANN401 - an index of FAISS
    width = 8 * rows.shape[1]
    size = min(SLICE, width)
    return faiss().IndexBinaryMultiHash(width, width // size, size)


_BINARY: Mapping[str, Callable[[Array], Any]] = {
    "flat": lambda rows: faiss().IndexBinaryFlat(8 * rows.shape[1]),
    "ivf": _ivf_codes,
    "hnsw": _hnsw,
    "multihash": _multihash,
}
_REAL: Mapping[str, Callable[[Array], Any]] = {
    "flat": lambda rows: faiss().IndexFlatIP(rows.shape[1]),
    "hnsw": _hnsw,
}


def _reason(error: RuntimeError) -> str:
    """What FAISS says, without the place in its source."""
    return " ".join(str(error).rpartition("Error: ")[2].split())[:160]
