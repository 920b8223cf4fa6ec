"""Datasets, their protocols, and the way from files to batches. The datasets are those imported here."""

from xmodal.data.module import CrossModalDataModule
from xmodal.data.pairs import Pairs
from xmodal.data.sets.emoji import Emoji
from xmodal.data.sets.fashion import Fashion
from xmodal.data.sets.fashionvc import FashionVC
from xmodal.data.sets.flickr8k import Flickr8k
from xmodal.data.sets.flickr30k import Flickr30k
from xmodal.data.sets.folder import Folder
from xmodal.data.sets.food71 import Food71
from xmodal.data.sets.iapr_tc12 import IAPRTC12
from xmodal.data.sets.mirflickr25k import MIRFlickr25K
from xmodal.data.sets.mscoco import MSCOCO
from xmodal.data.sets.nuswide import NUSWide
from xmodal.data.sets.pascal_sentence import PascalSentence
from xmodal.data.sets.ssense import Ssense
from xmodal.data.sets.wikipedia import Wikipedia
from xmodal.data.sets.xmedianet import XMediaNet
from xmodal.data.split import Split, make_split

__all__ = [
    "IAPRTC12",
    "MSCOCO",
    "CrossModalDataModule",
    "Emoji",
    "Fashion",
    "FashionVC",
    "Flickr8k",
    "Flickr30k",
    "Folder",
    "Food71",
    "MIRFlickr25K",
    "NUSWide",
    "Pairs",
    "PascalSentence",
    "Split",
    "Ssense",
    "Wikipedia",
    "XMediaNet",
    "make_split",
    "registry",
]


def registry() -> dict[str, type[CrossModalDataModule]]:
    """Every dataset's class by its name, in the order of the names."""
    found = {getattr(globals()[each], "name", None): globals()[each] for each in __all__}
    return {name: found[name] for name in sorted(filter(None, found))}
