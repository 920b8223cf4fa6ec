"""Frozen encoders and the cache of what they gave."""

from xmodal.encoders.cache import Arrays, cached, digest, encoded
from xmodal.encoders.clip import OpenClipImage, OpenClipText
from xmodal.encoders.frozen import encode_images, encode_texts
from xmodal.encoders.image import ImageEncoder, TimmImage
from xmodal.encoders.text import BagOfWords, MiniLM, TextEncoder, label_embeddings

__all__ = [
    "Arrays",
    "BagOfWords",
    "ImageEncoder",
    "MiniLM",
    "OpenClipImage",
    "OpenClipText",
    "TextEncoder",
    "TimmImage",
    "cached",
    "digest",
    "encode_images",
    "encode_texts",
    "encoded",
    "label_embeddings",
]
