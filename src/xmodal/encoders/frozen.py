"""A dataset's pictures and texts through frozen encoders, each once."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xmodal.code import own_code
from xmodal.encoders.cache import Arrays, Indexed, encoded, location
from xmodal.encoders.image import ImageEncoder
from xmodal.encoders.text import TextEncoder


def encode_images(
    folder: Path,
    key: Mapping[str, object],
    encoder: ImageEncoder,
    images: Indexed[Image.Image | None],
    *,
    tokens: bool = True,
) -> Arrays:
    """`pooled` (N, D), `tokens` (N, T, D') where they are kept, and `missing` (N,), True where a picture is corrupt.

    Args:
        folder: of the caches.
        key: everything about the pictures that changes the values; the encoder adds its own, and one's own its code.
        encoder: a frozen trunk.
        images: N pictures, decoded when they are indexed; None for one that is corrupt.
        tokens: keep the token grids too; they take a dozen times the room.
    """
    key, keep = _kept(folder, encoder.name, {**key, **encoder.key(), **own_code(type(encoder))}, tokens=tokens)
    return encoded(folder, encoder.name, key, images, encoder.open, keep, encoder.batch_size)


def check_images(folder: Path, key: Mapping[str, object], images: Indexed[Image.Image | None]) -> Arrays:
    """`size` (N, 2), width and height in pixels, and `missing` (N,), True where a picture is corrupt.

    Every picture is decoded once, because a trained trunk must know before the first epoch which pairs there are.

    Args:
        folder: of the caches.
        key: everything about the pictures that changes the values.
        images: N pictures, decoded when they are indexed; None for one that is corrupt.
    """

    def sizes(pictures: list[Image.Image]) -> dict[str, NDArray[np.generic]]:
        return {"size": np.array([picture.size for picture in pictures], np.int32)}

    return encoded(folder, "checked", {**key, "keep": "size"}, images, lambda: sizes)


def encode_texts(
    folder: Path,
    key: Mapping[str, object],
    encoder: TextEncoder,
    texts: Sequence[str],
    train: Sequence[str],
    split_hash: str,
    *,
    tokens: bool = True,
) -> Arrays:
    """`pooled` (N, D), and `tokens` (N, T, D) with `mask` (N, T) where they are kept and the encoder has them.

    Args:
        folder: of the caches.
        key: everything about the texts that changes the values; the encoder adds its own, and one's own its code.
        encoder: a frozen trunk, or one that learns a vocabulary.
        texts: N texts.
        train: the training texts, the only ones that may be learnt from.
        split_hash: of the split that they belong to.
        tokens: keep the tokens too.
    """
    fitted = {"train": split_hash} if encoder.fits else {}
    key = {**key, **encoder.key(), **own_code(type(encoder)), **fitted}
    key, keep = _kept(folder, encoder.name, key, tokens=tokens)
    arrays = encoded(folder, encoder.name, key, texts, lambda: encoder.open(train), keep, encoder.batch_size)
    if "mask" in arrays:  # no text reaches beyond the longest
        longest = int(np.flatnonzero(arrays["mask"].any(0))[-1]) + 1
        arrays |= {name: arrays[name][:, :longest] for name in ("tokens", "mask")}
    return arrays


def _kept(
    folder: Path, name: str, key: dict[str, object], *, tokens: bool
) -> tuple[dict[str, object], tuple[str, ...]]:
    """The key of the cache and what it keeps; a cache with tokens serves without them too, where it is the only one."""
    pooled = {**key, "keep": "pooled"}
    if tokens or (location(folder, name, key).is_dir() and not location(folder, name, pooled).is_dir()):
        return key, ()
    return pooled, ("pooled",)
