"""Decoded pictures on disk, for trunks that are trained: every picture is decoded once, whatever the number of runs."""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from xmodal.data.loading import EpochSampler, batch_loader
from xmodal.data.pairs import Pictures
from xmodal.data.split import Index
from xmodal.encoders import View, location
from xmodal.errors import UserError
from xmodal.files import write_atomically
from xmodal.progress import bar

SPARE = 2 * 2**30  # bytes of free disk that the store leaves
STATE = np.dtype([("whole", np.uint64), ("wide", np.uint64), ("size", np.int32, (2,))])


class PictureForms:
    """The two forms of a picture, uint8: `whole`, what the trunk reads, and `wide`, what random windows are cut from.

    Args:
        pictures: N of them.
        transform: of their trunk, see `Trunk`; it gives `whole`.
        view: of their trunk; it gives `wide`.
    """

    def __init__(self, pictures: Pictures, transform: Callable[[Image.Image], Tensor], view: View | None) -> None:
        self.pictures, self.transform, self.view = pictures, transform, view
        self.shapes = {"whole": tuple(self.whole(Image.new("RGB", (64, 64))).shape)}
        if self.view is not None:
            self.shapes["wide"] = (3, self.view.stored, self.view.stored)

    def whole(self, picture: Image.Image) -> NDArray[np.uint8]:
        """(3, h, w)."""
        return self.transform(picture).numpy()

    def make(self, form: str, picture: Image.Image) -> NDArray[np.uint8]:
        """One of the two."""
        return self.view.store(picture) if form == "wide" and self.view else self.whole(picture)

    def read(self, form: str, rows: Index) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) pictures decoded now, and their (B, 2) widths and heights."""
        found, sizes = [], []
        for row in rows.tolist():
            picture = self.pictures[row]
            if picture is None:
                raise UserError(f"picture {row} could be read when the files were checked and cannot be read now.")
            found.append(torch.from_numpy(np.ascontiguousarray(self.make(form, picture))))
            sizes.append(picture.size)
        return torch.stack(found), torch.tensor(sizes)


class PixelStore:
    """Both forms of all pictures as files `whole.bin`, `wide.bin` and `state.bin` of a folder, read as memory maps.

    Only rows that were asked for take room on the disk. A row counts when the mark beside it is the picture's, which is
    written after its pixels: a killed run leaves no half row, and a picture that changed is decoded again.

    Args:
        folder: where the caches of one dataset lie.
        key: everything but the pictures that changes the pixels.
        forms: of the pictures.
        marks: (N,) of the content of every picture, not 0.

    Raises:
        UserError: the folder cannot be written.
    """

    def __init__(self, folder: Path, key: Mapping[str, object], forms: PictureForms, marks: NDArray[np.uint64]) -> None:
        self.forms, self.marks, self.count = forms, marks, len(marks)
        key = {**key, "shapes": forms.shapes, "count": self.count, "version": 1}
        self.folder = location(folder, "pixels", key)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for name, row in (*((form, self._row(form)) for form in forms.shapes), ("state", STATE.itemsize)):
                with (self.folder / f"{name}.bin").open("ab") as file:
                    if name == "state":
                        file.write(bytes(max(self.count * row - file.tell(), 0)))
                    elif file.tell() < self.count * row:  # new, or of a copy that ended early: then the marks are wrong
                        (self.folder / "state.bin").unlink(missing_ok=True)
                        file.truncate(self.count * row)  # a hole until it is written
            write_atomically(self.folder / "key.json", json.dumps(key, indent=1, sort_keys=True))
        except OSError as error:
            raise UserError(
                f"cannot keep decoded pictures: {error}. Make {folder} a writable folder, name another one in "
                "XMODAL_DATA, or say data.trunk.cache=false."
            ) from error
        self.state = np.memmap(self.folder / "state.bin", STATE, "r+", shape=(self.count,))

    def _row(self, form: str) -> int:
        return int(np.prod(self.forms.shapes[form]))

    def lacking(self, wanted: Mapping[str, Index]) -> dict[str, Index]:
        """The rows of each form that are not there, or are of another picture."""
        return {form: rows[self.state[form][rows] != self.marks[rows]] for form, rows in wanted.items()}

    def room(self, wanted: Mapping[str, Index]) -> tuple[int, int]:
        """Bytes that are still to be written, and bytes that may be."""
        needed = sum(self._row(form) * len(rows) for form, rows in self.lacking(wanted).items())
        return needed, shutil.disk_usage(self.folder).free - SPARE

    def fill(self, wanted: Mapping[str, Index], workers: int) -> None:
        """Decode what lacks, each picture once for both forms.

        Args:
            wanted: rows by form.
            workers: processes that decode.

        Raises:
            UserError: more pictures than are allowed are missing or corrupt, or the disk is full.
        """
        if not any(len(rows) for rows in self.lacking(wanted).values()):
            return
        with FileLock(self.folder / ".lock"):
            lacking = self.lacking(wanted)  # another process may have filled it meanwhile
            for form, some in lacking.items():
                self.state[form][some] = 0  # who reads them as another picture's is told
            decoding = _Decoding(self.forms, self.folder, lacking)
            loader = batch_loader(decoding, EpochSampler(len(decoding), 32), workers)
            corrupt: list[int] = []
            shown = bar(total=len(decoding), desc="pictures decoded", unit="picture")
            for rows, sizes, failed in loader:
                if failed:
                    raise UserError(f"cannot keep decoded pictures in {self.folder}: {failed}.")
                self.state["size"][rows] = sizes
                self._mark(rows[sizes[:, 0] > 0], lacking)
                corrupt += rows[sizes[:, 0] == 0].tolist()
                shown.update(len(rows))
            shown.close()
            for row in corrupt:
                _ = self.forms.pictures[row]  # which says what is wrong with it, and stops where there are too many
            self._mark(np.array(corrupt, np.int64), lacking)
            self.state.flush()

    def _mark(self, rows: Index, forms: Mapping[str, Index]) -> None:
        for form, some in forms.items():
            mine = rows[np.isin(rows, some)]
            self.state[form][mine] = self.marks[mine]

    @property
    def missing(self) -> NDArray[np.bool_]:
        """(N,) True where a picture is missing or corrupt."""
        return np.asarray(self.state["size"][:, 0] == 0)

    def read(self, form: str, rows: Index) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) pictures, and their (B, 2) widths and heights.

        Raises:
            UserError: another run has replaced some.
        """
        if (self.state[form][rows] != self.marks[rows]).any():
            raise UserError(
                f"another run has replaced pictures in {self.folder}, as its data of this name show others: give them "
                "another name, or say data.trunk.cache=false."
            )
        pixels = np.memmap(self.folder / f"{form}.bin", np.uint8, "r", shape=(self.count, *self.forms.shapes[form]))
        return torch.from_numpy(pixels[rows]), torch.from_numpy(self.state["size"][rows].astype(np.int64))


class _Decoding(Dataset[Any]):
    """Indexing with positions decodes the pictures of some rows and writes them, in a worker process.

    Args:
        forms: of the pictures.
        folder: of the files.
        lacking: rows by form.
    """

    def __init__(self, forms: PictureForms, folder: Path, lacking: Mapping[str, Index]) -> None:
        self.forms, self.folder, self.lacking = forms, folder, {form: set(r.tolist()) for form, r in lacking.items()}
        self.rows = np.unique(np.concatenate(list(lacking.values())))

    def __getitem__(self, positions: Tensor) -> tuple[Index, NDArray[np.int32], str]:
        rows, failed = self.rows[positions.numpy()], ""
        sizes = np.zeros((len(rows), 2), np.int32)
        for place, row in enumerate(rows.tolist()):
            picture = self._picture(row)
            if picture is None:
                continue
            sizes[place] = picture.size
            try:
                for form, some in self.lacking.items():
                    if row in some:
                        self._write(form, row, self.forms.make(form, picture))
            except OSError as error:
                failed = str(error)
        return rows, sizes, failed

    def _picture(self, row: int) -> Image.Image | None:
        """None for one that is corrupt; the process that asked says so, and counts them."""
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                return self.forms.pictures[row]
            except UserError:
                return None

    def _write(self, form: str, row: int, pixels: NDArray[np.uint8]) -> None:
        """Not through a memory map: a disk that is full would kill the process."""
        content = np.ascontiguousarray(pixels).tobytes()
        file = os.open(self.folder / f"{form}.bin", os.O_WRONLY)
        try:
            if os.pwrite(file, content, row * len(content)) != len(content):
                raise OSError("no space left on the device")
        finally:
            os.close(file)

    def __len__(self) -> int:
        return len(self.rows)
