"""Datasets, their protocols, and the way from files to batches. The datasets are those imported here."""

from xmodal.data.emoji import Emoji
from xmodal.data.fashion import Fashion
from xmodal.data.fashionvc import FashionVC
from xmodal.data.flickr8k import Flickr8k
from xmodal.data.flickr30k import Flickr30k
from xmodal.data.food71 import Food71
from xmodal.data.iapr_tc12 import IAPRTC12
from xmodal.data.mirflickr25k import MIRFlickr25K
from xmodal.data.module import CrossModalDataModule
from xmodal.data.mscoco import MSCOCO
from xmodal.data.nuswide import NUSWide
from xmodal.data.pairs import Pairs
from xmodal.data.pascal_sentence import PascalSentence
from xmodal.data.protocol import Split
from xmodal.data.ssense import Ssense
from xmodal.data.wikipedia import Wikipedia
from xmodal.data.xmedianet import XMediaNet

__all__ = [
    "IAPRTC12",
    "MSCOCO",
    "CrossModalDataModule",
    "Emoji",
    "Fashion",
    "FashionVC",
    "Flickr8k",
    "Flickr30k",
    "Food71",
    "MIRFlickr25K",
    "NUSWide",
    "Pairs",
    "PascalSentence",
    "Split",
    "Ssense",
    "Wikipedia",
    "XMediaNet",
]
