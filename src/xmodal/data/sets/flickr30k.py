"""Flickr30k (Young et al., TACL 2014): 31,783 photos with five captions each."""

from typing import ClassVar

from xmodal.data.readers.files import Forms
from xmodal.data.sets.captions import SCAN, CaptionBenchmark
from xmodal.data.sets.protocols import PROTOCOLS


class Flickr30k(CaptionBenchmark):
    """One pair per caption; Karpathy's split of 29,000 / 1,014 / 1,000 photos."""

    name = "flickr30k"
    recipes = PROTOCOLS["flickr30k"]
    forms: ClassVar[Forms] = {
        "karpathy": ("dataset_flickr30k.json", "*.jpg"),
        "original": ("results*", "train.txt", "val.txt", "test.txt", "*.jpg"),
        "scan": SCAN,
    }
    origin = "the Hockenmaier group, University of Illinois, on request; splits from Karpathy and Fei-Fei, CVPR 2015"
    lists = ("train.txt", "val.txt", "test.txt")
