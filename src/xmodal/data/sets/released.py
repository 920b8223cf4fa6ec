"""Pictures and texts from files, encoded once and cached: what a benchmark and a folder of one's own have in common."""

import hashlib
import os
import sys
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
from PIL import Image

from xmodal import paths
from xmodal.data.module import CrossModalDataModule, Pairs
from xmodal.data.pairs import Pictures
from xmodal.data.readers.checksums import checksums, fingerprint, marks
from xmodal.data.readers.files import Photos, Pixels
from xmodal.data.readers.release import Release
from xmodal.data.recipes import Recipe
from xmodal.data.split import Index, Split
from xmodal.data.store import PictureForms, PixelStore
from xmodal.encoders import (
    DECODING,
    Arrays,
    ImageEncoder,
    MiniLM,
    TextEncoder,
    TimmImage,
    cached,
    check_images,
    encode_images,
    encode_texts,
)
from xmodal.errors import UserError


class Released(CrossModalDataModule):
    """A dataset that is read from files (`release`) and cut by a `recipe`; its features are cached in `folder`.

    Args:
        image_encoder: trunk for pictures; default EfficientNet-Lite0 with ImageNet weights at 128 pixels, which
            suits two cores. Features that the files bring are taken as they are.
        text_encoder: trunk for texts; default MiniLM. Tag vectors that the files bring are taken as they are.
        max_corrupt: so many pictures may be missing or corrupt; they are named, counted and left out.
    """

    twins: ClassVar[bool] = False  # whether equal pictures under two names are looked for in any case

    def __init__(
        self,
        image_encoder: ImageEncoder | None = None,
        text_encoder: TextEncoder | None = None,
        max_corrupt: int = 0,
        **kwargs: Any,  # noqa: ANN401 - the arguments of CrossModalDataModule, read from its signature
    ) -> None:
        super().__init__(**kwargs)
        self.image_encoder, self.text_encoder = image_encoder or TimmImage(size=128), text_encoder or MiniLM()
        self.max_corrupt = max_corrupt
        if max_corrupt < 0:
            raise UserError(f"data.max_corrupt is {max_corrupt}: give 0 or more.")

    @property
    @abstractmethod
    def release(self) -> Release:
        """The dataset as its files give it, read once."""

    @property
    @abstractmethod
    def recipe(self) -> Recipe:
        """How it is split."""

    @property
    @abstractmethod
    def validation(self) -> int:
        """Number of validation pairs that are cut out of the training pairs where the release brings none."""

    @cached_property
    def folder(self) -> Path:
        """Where features are cached: `features/` in the dataset's folder, or under XMODAL_HOME if that is read-only."""
        own = self.root / "features"
        target = next(each for each in (own, *own.parents) if each.is_dir())
        if os.access(target, os.W_OK) and target.stat().st_mode & 0o222:
            return own
        other = paths.home() / "data" / self.name / "features"
        sys.stderr.write(f"{self.root} is read-only: the features of {self.name} are kept in {other}\n")
        return other

    def split(self) -> Split:
        """The protocol's lists, without pairs whose picture is missing or corrupt."""
        drawn = self.release.picture if self.content is None else self.content
        split = self._drawn(drawn)
        rows = self.release.image_rows
        gone = self._corrupt if rows is None else np.flatnonzero(np.isin(rows, self._corrupt))
        if not len(gone):
            return split
        return Split(**{name: index[~np.isin(index, gone)] for name, index in vars(split).items()})

    def _drawn(self, group: Index | None) -> Split:
        return self.recipe.split(self.release.label, self.release.roles, self.validation, group)

    def pairs(self) -> Pairs:
        """The release with its pictures and texts encoded once, cached in `folder`."""
        release = self.release
        # a wrong protocol stops here, not after the encoding
        self._drawn(release.picture)
        return Pairs(
            self._image,
            self._text(),
            release.label,
            release.label_names,
            release.hierarchy,
            release.picture,
            {
                side: rows
                for side, rows in (("image", release.image_rows), ("text", release.text_rows))
                if rows is not None
            },
            self.content,
            self._marks,
            () if isinstance(release.text, (np.ndarray, dict)) else release.text,
            marks(self._image, self.folder).view(np.int64) if isinstance(self._image, (Photos, Pixels)) else None,
        )

    @cached_property
    def content(self) -> Index | None:
        """(N,) number of the content of each pair's picture, for files with several captions each; None elsewhere."""
        release = self.release
        if not isinstance(release.image, Photos) or (release.picture is None and not self.twins):
            return None
        found = zip(checksums(release.image.files, release.image.found, self.folder), release.image.names, strict=True)
        first: dict[str, int] = {}
        numbers = [first.setdefault(content or f"no {name}", row) for row, (content, name) in enumerate(found)]
        return np.array(numbers, np.int64)[slice(None) if release.image_rows is None else release.image_rows]

    @property
    def _marks(self) -> Index | None:
        image, rows = self.release.image, self.release.image_rows
        if not self.twins or not isinstance(image, Photos):
            return None
        return marks(image, self.folder).view(np.int64)[slice(None) if rows is None else rows]

    @cached_property
    def _image(self) -> Arrays | Pictures:
        image = self.release.image
        if self.trunk.trains("image") and isinstance(image, (Photos, Pixels)):
            return image
        if self.trunk.trains("image"):
            raise UserError(f"data.trunk.sides is {self.trunk.sides!r}, but the files of {self.name} hold no pictures.")
        if isinstance(image, (Photos, Pixels)):
            return encode_images(self.folder, self._image_key(image), self.image_encoder, image, tokens=self.tokens)
        return _arrays(image)

    def _image_key(self, image: Photos | Pixels) -> dict[str, object]:
        return {"dataset": self.name, "pictures": fingerprint(image, self.folder), "decoding": DECODING}

    def _text(self) -> Arrays:
        text, rows = self.release.text, self.release.text_rows
        if isinstance(text, (np.ndarray, dict)):
            if self.trunk.trains("text"):
                raise UserError(f"data.trunk.sides is {self.trunk.sides!r}, but {self.name} has text features here.")
            return _arrays(text)
        digest = hashlib.sha256("\0".join(text).encode()).hexdigest()[:16]
        if self.trunk.trains("text"):
            return self._token_ids({"dataset": self.name, "texts": digest}, list(text))
        split, train = self.split(), []
        if self.text_encoder.fits:
            train = [text[row] for row in (split.train if rows is None else np.unique(rows[split.train]))]
        key = {"dataset": self.name, "texts": digest}
        return encode_texts(self.folder, key, self.text_encoder, text, train, split.hash, tokens=self.tokens)

    def _token_ids(self, key: dict[str, object], text: list[str]) -> Arrays:
        """`ids` (N, L), made once, as long as the longest text (and a multiple of 8)."""
        key |= {"ids": dict(self.text_encoder.key())}
        arrays = cached(self.folder, "ids", key, lambda: {"ids": self._readers["text"].transform(text).numpy()})
        longest = int(np.flatnonzero(arrays["ids"].any(0))[-1]) + 1
        return {"ids": arrays["ids"][:, : -(-longest // 8) * 8]}

    @cached_property
    def _store(self) -> PixelStore | None:
        """See `CrossModalDataModule`: every picture as its trunk reads it, those of training pairs for crops too."""
        image = self.release.image
        if not (self.trunk.cache and self.trunk.trains("image") and isinstance(image, (Photos, Pixels))):
            return None
        key = {"dataset": self.name, "decoding": DECODING, "transform": repr(self._readers["image"].transform)}
        forms = PictureForms(image, self._readers["image"].transform, self._readers["image"].view)
        store = PixelStore(self.folder, key | {"view": repr(forms.view)}, forms, marks(image, self.folder))
        train = self._drawn(None).train
        rows = train if self.release.image_rows is None else np.unique(self.release.image_rows[train])
        wanted = {"whole": np.arange(len(image))} | ({"wide": rows} if self.trunk.augments and forms.view else {})
        needed, free = store.room(wanted)
        if needed > free:
            sys.stderr.write(
                f"decoded pictures of {self.name} need {needed / 1e9:.1f} GB in {self.folder}, and "
                f"{max(free, 0) / 1e9:.1f} GB are free: every epoch decodes them again\n"
            )
            return None
        store.fill(wanted, self.trunk.processes(1))
        return store

    @cached_property
    def _corrupt(self) -> Index:
        """Rows of pictures that are missing or corrupt; more than `max_corrupt` were refused when they were read."""
        image = self.release.image
        if not isinstance(image, Photos):
            return np.zeros(0, np.int64)
        arrays = self._image
        missing: Any
        if self._store:
            missing = self._store.missing
        elif isinstance(arrays, dict):
            missing = arrays["missing"]
        else:
            missing = check_images(self.folder, self._image_key(image), image)["missing"]
        rows = np.flatnonzero(missing)
        if len(rows) > self.max_corrupt:
            names = ", ".join(image.names[row] for row in rows[:10])
            raise UserError(
                f"{len(rows)} pictures are missing or corrupt, {self.max_corrupt} allowed: {names}. Download them "
                f"again, or leave them out with --data.max_corrupt={len(rows)} or more."
            )
        return rows

    def describe(self) -> dict[str, Any]:
        """See `CrossModalDataModule`; also the form of the files, how it was split, and what was left out."""
        names = [cast("Photos", self.release.image).names[row] for row in self._corrupt]
        return {
            **super().describe(),
            "protocol_words": self.recipe.words,
            "source": self.release.source,
            "pairs": len(self.release.label),
            "corrupt_images": names,
            **self.release.notes,
        }

    def picture(self, position: int) -> Image.Image | None:
        """The picture of one pair, for galleries; None where only features are at hand."""
        image, rows = self.release.image, self.release.image_rows
        if not isinstance(image, (Photos, Pixels)):
            return None
        return image[position if rows is None else int(rows[position])]

    def caption(self, position: int) -> str:
        """The text of one pair, for galleries; its labels where only features are at hand."""
        text, rows = self.release.text, self.release.text_rows
        if isinstance(text, (np.ndarray, dict)):
            return ", ".join(self.release.label_names[k] for k in np.flatnonzero(self.release.label[position]))
        return str(text[position if rows is None else int(rows[position])])


def _arrays(features: Any) -> Arrays:  # noqa: ANN401 - an array, or arrays by name
    return features if isinstance(features, dict) else {"pooled": features}
