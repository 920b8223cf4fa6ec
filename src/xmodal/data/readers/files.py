"""Files of a dataset's folder, those in zips, tars and Parquet files included; pictures are decoded on demand."""

import re
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, cast
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xmodal.data.readers.archives import Opened, Zip
from xmodal.data.readers.text import decoded, parse_json, split_lines
from xmodal.data.readers.walk import SKIPPED, stamp_of, walk
from xmodal.encoders import open_picture
from xmodal.errors import UserError

ROOT = re.compile(r"/|~.*|\.\.|.+:")  # that a name may begin with: C:, https:
INSIDE = re.compile(r"(.+?\.(?:tar|parquet))/(.+)", re.IGNORECASE)  # a member of a tar, a row of a Parquet file

Forms = Mapping[str, tuple[str, ...]]  # by form of a dataset, the names of its files; * stands for anything


class Entry(NamedTuple):
    """A file in the folder, or a member of a zip.

    Args:
        name: with its folders, in the zip or below the root.
        place: path of the file itself, or of the zip, as text: to make 44,000 paths takes a second.
        member: its name in the zip, as the zip writes it; empty for a plain file.
        stamp: size, times of change in nanoseconds, and inode of the file or of the zip.
    """

    name: str
    place: str
    member: str
    stamp: tuple[int, int, int, int]

    @property
    def path(self) -> Path:
        """Of the file itself, or of the zip."""
        return Path(self.place)


class Files:
    """Everything below a folder, looked up by file name; may be forked and pickled: each process opens its own handles.

    Args:
        root: the dataset's folder.

    Raises:
        UserError: a zip is damaged, or holds a name that leads out of it; a link leads nowhere or in a circle.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._entries: dict[str, list[Entry]] = defaultdict(list)
        self._tails: dict[str, list[Entry]] = defaultdict(list)  # by last folders too, of names that come several times
        self._opened, self._stamps = Opened(), dict[Path, tuple[int, int, int, int]]()
        for path, status in walk(str(root), ()) if root.is_dir() else ():
            stamp = stamp_of(status)
            if path.lower().endswith(".zip"):
                self._add_zip(Path(path), stamp)
            else:
                self._add(Entry(path[len(str(root)) + 1 :], path, "", stamp))

    def _add(self, entry: Entry) -> None:
        self._entries[_folded(entry.name.rpartition("/")[2])].append(entry)

    def _add_zip(self, path: Path, stamp: tuple[int, int, int, int]) -> None:
        try:
            members = cast("Zip", self._opened[path]).handle.infolist()
        except Exception as error:  # zipfile raises anything on a damaged directory
            raise UserError(f"{path} is damaged ({error}): download it again.") from error
        for member in members:
            name = PurePosixPath(member.filename.replace("\\", "/"))
            if name.is_absolute() or ".." in name.parts:
                raise UserError(f"{path} holds {member.filename!r}, which leads out of it: this is no dataset's file.")
            if name.parts and not member.is_dir() and not set(SKIPPED) & set(name.parts):
                self._add(Entry(str(name), str(path), member.filename, stamp))

    def entries(self, suffix: str = "", inside: str = "") -> list[Entry]:
        """Every file with an ending and with a folder (or part of a name) in its path, ordered by path."""
        every = (entry for several in self._entries.values() for entry in several)
        found = (entry for entry in every if entry.name.lower().endswith(suffix) and inside in entry.name)
        return sorted(found, key=lambda entry: (entry.name, entry.place))

    def matches(self, pattern: str) -> bool:
        """Whether a file is there whose path ends in a name, in which `*` stands for anything."""
        every = (entry for several in self._entries.values() for entry in several)
        return any(PurePosixPath(entry.name.lower()).match(pattern.lower()) for entry in every)

    def find(self, name: str) -> Entry | None:
        """The file of a name; folders in front of it need not agree, because authors write those of their machines.

        Raises:
            UserError: several files fit equally well.
        """
        return _only(name, self._fits(name))

    def find_all(self, names: Sequence[str]) -> list[Entry | None]:
        """As `find`, but where folders of one name are here, those of another need to be: cat/1.jpg is not dog/1.jpg.

        Raises:
            UserError: see `find`; or one file answers to two names.
        """
        every = [self._fits(name) for name in names]
        fronts = [_front(name, fits) for name, fits in zip(names, every, strict=True)]
        here = {front for front, agree in fronts if agree > 1}
        found: list[Entry | None] = []
        taken: dict[tuple[str, str], str] = {}
        for name, fits, (front, _) in zip(names, every, fronts, strict=True):
            begins = bool(front and ROOT.fullmatch(front[0]))  # where it does not lie beside what is named from here
            gone = any(front[:length] in here for length in range(begins, len(front)))
            entry = None if gone else _only(name, fits)
            other = taken.setdefault((entry.name, entry.place), name) if entry else name
            if entry and _parts(other) != _parts(name):
                raise UserError(
                    f"{name!r} and {other!r} are both {entry.name} in {entry.path}: one is not here, or has two names."
                )
            found.append(entry)
        return found

    def _fits(self, name: str) -> list[Entry]:
        """The files that agree with a name in as many folders as any does."""
        if inside := INSIDE.match(name):
            return [entry for entry in (self._inside(name, self.root / inside[1], inside[2]),) if entry]
        parts = _parts(name)
        several = self._entries.get(_folded(parts[-1]), []) if parts else []
        if len(several) < 2:
            return several
        if _folded(parts[-1]) not in self._tails:  # 20,000 products may each have their 1.jpg
            for entry in several:
                there = _folded(entry.name).split("/")
                for depth in range(1, min(len(there), 4) + 1):
                    self._tails["/".join(there[-depth:])].append(entry)
        tails = ("/".join(parts[-depth:]) for depth in range(min(len(parts), 4), 0, -1))
        tail = next(each for each in tails if _folded(each) in self._tails)  # the longest agreement from the right wins
        fits = self._tails[_folded(tail)]
        exact = [entry for entry in fits if f"/{entry.name}".endswith(f"/{tail}")]
        whole = [entry for entry in exact if entry.name == "/".join(parts)]
        return whole if len(whole) == 1 else exact or fits  # im1.JPG is im1.jpg where there is no im1.JPG

    def _inside(self, name: str, path: Path, member: str) -> Entry | None:
        """A member of a tar or a row of a Parquet file, which are named in full."""
        if path not in self._stamps:
            try:
                self._stamps[path] = stamp_of(path.stat())
            except (OSError, ValueError):  # a NUL in the name
                return None
        return Entry(name, str(path), member, self._stamps[path])

    def read(self, entry: Entry) -> bytes:
        """The content of a file.

        Raises:
            UserError: it is damaged, encrypted, or unpacks to something that no dataset holds.
        """
        if not entry.member:
            return entry.path.read_bytes()
        try:
            return self._opened[entry.path].read(entry.member)
        except UserError:
            raise
        except Exception as error:  # zipfile, zlib, lzma, tarfile and pyarrow have no common base
            raise UserError(f"{entry.name} in {entry.path} is damaged ({error}).") from error

    def text(self, entry: Entry) -> str:
        """The content of a text file, see `decoded`."""
        return decoded(self.read(entry), str(entry.path))

    def lines(self, entry: Entry) -> list[str]:
        """The lines of a text file that are not blank, without blanks around them."""
        return [line.strip() for line in split_lines(self.text(entry)) if line.strip()]

    def json(self, entry: Entry) -> Any:  # noqa: ANN401
        """The content of a JSON file.

        Raises:
            UserError: it is damaged.
        """
        try:
            return parse_json(self.text(entry))
        except (ValueError, RecursionError) as error:
            raise UserError(f"{entry.path} is damaged ({error}): download it again.") from error


def _folded(name: str) -> str:
    """A name as it is looked up: of one case, and of one form of its accents, of which macOS writes another one."""
    return (name if name.isascii() else normalize("NFC", name)).lower()


def _parts(name: str) -> list[str]:
    return [part for part in name.strip().replace("\\", "/").split("/") if part not in ("", ".")]


def _only(name: str, fits: Sequence[Entry]) -> Entry | None:
    if len(fits) > 1:
        raise UserError(f"{name!r} may be {' or '.join(f'{e.name} in {e.path}' for e in fits[:3])}: keep one of them.")
    return fits[0] if fits else None


def _front(name: str, fits: Sequence[Entry]) -> tuple[tuple[str, ...], int]:
    """The root and the folders in front of a name that are not in front of its file, and how many parts agree."""
    parts, agree = _parts(name), 0
    for part, other in zip(reversed(parts), reversed(fits[0].name.split("/") if fits else []), strict=False):
        if _folded(part) != _folded(other):
            break
        agree += 1
    root = ("/",) if name.strip()[:1] in ("/", "\\") else ()
    return (*root, *parts[: len(parts) - agree]), agree


def expected(forms: Forms, origin: str) -> str:
    """For an error: the files of every form, where they come from, and where to put them."""
    listed = "; or ".join(f"{', '.join(names)} ({form})" for form, names in forms.items())
    return (
        f"Expected there: {listed}. From: {origin}. "
        "Put them there, or name the folder with --data.root or XMODAL_DATA (see data/README.md)."
    )


def missing(root: Path, forms: Forms) -> dict[str, list[str]]:
    """By form, the files that are not in a folder or in its zips; a form of which nothing is there is left out."""
    files = Files(root)
    lacking = {form: [name for name in names if not files.matches(name)] for form, names in forms.items()}
    return {form: names for form, names in lacking.items() if len(names) < len(forms[form])}


class Photos:
    """Pictures in files; None for one that is missing or corrupt, an error when there are more of those than allowed.

    Args:
        files: where they lie.
        names: file names, in the dataset's order.
        max_corrupt: so many may be missing or corrupt.
    """

    def __init__(self, files: Files, names: Sequence[str], max_corrupt: int = 0) -> None:
        self.files, self.names, self.max_corrupt = files, list(names), max_corrupt
        self.found = files.find_all(self.names)
        self.corrupt: dict[int, str] = {}
        if names and not any(self.found):
            raise UserError(
                f"none of the {len(self.names)} pictures is in {files.root}, the first is {self.names[0]!r}: put the "
                "pictures there, as a folder or as a zip."
            )

    def __getitem__(self, position: int, /) -> Image.Image | None:
        entry = self.found[position]
        try:
            return open_picture(self.files.read(entry) if entry else b"")
        except (UserError, OSError) as error:
            self.corrupt[position] = f"{self.names[position]} ({error if entry else 'no such file'})"
            if len(self.corrupt) > self.max_corrupt:
                named = "; ".join(self.corrupt.values())
                raise UserError(
                    f"{len(self.corrupt)} pictures are missing or corrupt, {self.max_corrupt} allowed: {named}. "
                    f"Download them again, or leave them out with --data.max_corrupt={len(self.corrupt)} or more."
                ) from error
            sys.stderr.write(f"left out: {self.corrupt[position]}\n")
            return None

    def __len__(self) -> int:
        return len(self.names)


class Pixels:
    """Pictures in an array (N, H, W, 3) or (N, 3, H, W).

    Args:
        array: uint8, or numbers from 0 to 255.
        name: for messages and for the cache's key.

    Raises:
        UserError: no axis of 3 colours, or numbers that are not levels from 0 to 255.
    """

    def __init__(self, array: NDArray[Any], name: str) -> None:
        colours = [axis for axis in (1, 3) if array.ndim == 4 and array.shape[axis] == 3]
        if len(colours) != 1:
            raise UserError(f"{name} has shape {array.shape}: pictures are N x H x W x 3 or N x 3 x H x W.")
        if array.dtype != np.uint8:
            low, high = array.min(), array.max()
            if not (low >= 0 and 1 < high <= 255):
                raise UserError(f"{name} hold {array.dtype} from {low} to {high}: pictures are levels from 0 to 255.")
        self.array, self.name = np.moveaxis(array, colours[0], 3), name

    def __getitem__(self, position: int, /) -> Image.Image | None:
        return Image.fromarray(np.ascontiguousarray(self.array[position]).astype(np.uint8))

    def __len__(self) -> int:
        return len(self.array)
