"""Searching with what was trained: indexes over codes and embeddings, asked with words and pictures."""

from xmodal.search.build import build_index
from xmodal.search.engine import KINDS, Kind
from xmodal.search.index import Answers, Hit, Index
from xmodal.search.sources import OwnPictures, read_picture
from xmodal.search.trained import Trained

__all__ = ["KINDS", "Answers", "Hit", "Index", "Kind", "OwnPictures", "Trained", "build_index", "read_picture"]
