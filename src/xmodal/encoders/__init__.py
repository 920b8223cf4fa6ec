"""Frozen encoders and the cache of what they gave."""

from xmodal.encoders.cache import Arrays, cached, digest
from xmodal.encoders.image import ImageEncoder, TimmImage
from xmodal.encoders.text import BagOfWords, MiniLM, TextEncoder

__all__ = ["Arrays", "BagOfWords", "ImageEncoder", "MiniLM", "TextEncoder", "TimmImage", "cached", "digest"]
