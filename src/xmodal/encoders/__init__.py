"""Encoders, frozen with a cache of what they gave, or as trunks to be trained."""

from xmodal.encoders.cache import Arrays, cached, digest, encoded
from xmodal.encoders.clip import OpenClipImage, OpenClipText
from xmodal.encoders.frozen import check_images, encode_images, encode_texts
from xmodal.encoders.image import DECODING, ImageEncoder, TimmImage, open_picture
from xmodal.encoders.text import BagOfWords, MiniLM, TextEncoder, label_embeddings
from xmodal.encoders.trunk import PatchProduct, Trunk

__all__ = [
    "DECODING",
    "Arrays",
    "BagOfWords",
    "ImageEncoder",
    "MiniLM",
    "OpenClipImage",
    "OpenClipText",
    "PatchProduct",
    "TextEncoder",
    "TimmImage",
    "Trunk",
    "cached",
    "check_images",
    "digest",
    "encode_images",
    "encode_texts",
    "encoded",
    "label_embeddings",
    "open_picture",
]
