"""What an index of one's own files holds: the pictures of a folder, and what a table says of them."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from xmodal.data.readers.files import Files, Photos
from xmodal.data.readers.listing import read_listing
from xmodal.encoders import open_picture
from xmodal.encoders.image import FORMATS
from xmodal.errors import UserError

LARGEST, PIXELS = 64 * 2**20, 64_000_000  # bytes and pixels of a picture that is asked with


@dataclass(frozen=True)
class OwnPictures:
    """Pictures below a folder, zips included, and texts of a table.

    Attributes:
        root: of the pictures.
        pictures: names, below the root.
        texts: of the table, in its order; none where there is no table.
        files: what lies there.
    """

    root: Path
    pictures: Sequence[str]
    texts: Sequence[str] = ()
    files: Files | None = field(default=None, repr=False)

    @classmethod
    def read(cls, root: Path, captions: Path | None = None) -> "OwnPictures":
        """List a folder.

        Args:
            root: of the pictures.
            captions: a table with a column of file names and one of texts (see `read_listing`), whose pictures are then
                those that count.

        Raises:
            UserError: there is no folder, no picture in it, a picture whose name is no text, or no such column.
        """
        if not root.is_dir():
            raise UserError(f"there is no folder {root}: give one with pictures.")
        files = Files(root)
        endings = {ending for ending, form in Image.registered_extensions().items() if form in FORMATS}
        every = [entry.name for entry in files.entries() if Path(entry.name).suffix.lower() in endings]
        if not every:
            raise UserError(f"{root} holds no picture (no file that ends in .jpg, .png, .webp ...).")
        if odd := [name for name in every if name.encode(errors="replace").decode() != name]:
            raise UserError(f"{root} holds {odd[0]!r}, a name that is no UTF-8: rename it.")
        if captions is None:
            return cls(root, every, files=files)
        listing = read_listing(captions)
        return cls(root, listing.files, listing.texts, files)

    def photos(self) -> Photos:
        """The pictures, decoded when they are asked for; None for one that is damaged, which is named on stderr."""
        return Photos(self.files or Files(self.root), self.pictures, max_corrupt=len(self.pictures))


def read_picture(source: Path | bytes) -> Image.Image:
    """A picture to search with; its size is looked at before anything is decoded.

    Args:
        source: a file, or its content.

    Raises:
        UserError: there is no file, it is no picture or a damaged one, or it is larger than a query may be.
    """
    if isinstance(source, Path) and not source.is_file():
        raise UserError(f"there is no picture {source}.")
    name = str(source) if isinstance(source, Path) else "the picture"
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    if size > LARGEST:
        raise UserError(f"{name} has {size / 2**20:.0f} MiB: a picture to search with has {LARGEST >> 20} at most.")
    content = source.read_bytes() if isinstance(source, Path) else source
    try:
        width, height = header(content)
        if width * height > PIXELS:
            raise UserError(  # noqa: TRY301 - named below
                f"{width} x {height} pixels, {PIXELS // 10**6} million at most"
            )
        return open_picture(content)
    except UserError as error:
        raise UserError(f"{name} cannot be searched with: {error}.") from error


def header(content: bytes) -> tuple[int, int]:
    """Width and height that a picture's file begins with.

    Raises:
        UserError: it is no picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # we have a limit of our own
            return Image.open(io.BytesIO(content), formats=FORMATS).size
    except Image.DecompressionBombError as error:
        raise UserError(f"too many pixels, {PIXELS // 10**6} million at most") from error
    except Exception as error:  # Pillow's readers have no common base
        raise UserError(f"{len(content)} bytes that are no picture") from error
