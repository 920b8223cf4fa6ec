"""Encoders, frozen with a cache of what they gave, or as trunks to be trained."""

from xmodal.encoders.batch_norm import SharedBatchNorm
from xmodal.encoders.cache import Arrays, cached, encoded, location
from xmodal.encoders.clip import OpenClipImage, OpenClipText
from xmodal.encoders.frozen import check_images, encode_images, encode_texts
from xmodal.encoders.image import DECODING, ImageEncoder, TimmImage, open_picture
from xmodal.encoders.text import BagOfWords, MiniLM, TextEncoder, label_embeddings, words_of
from xmodal.encoders.trunk import PatchProduct, Trunk
from xmodal.encoders.view import View, draws

__all__ = [
    "DECODING",
    "Arrays",
    "BagOfWords",
    "ImageEncoder",
    "MiniLM",
    "OpenClipImage",
    "OpenClipText",
    "PatchProduct",
    "SharedBatchNorm",
    "TextEncoder",
    "TimmImage",
    "Trunk",
    "View",
    "cached",
    "check_images",
    "draws",
    "encode_images",
    "encode_texts",
    "encoded",
    "label_embeddings",
    "location",
    "open_picture",
    "words_of",
]
