"""Flickr8k (Hodosh, Young and Hockenmaier, JAIR 2013): 8,091 photos with five captions each."""

from typing import ClassVar

from xmodal.data.readers.files import Forms
from xmodal.data.sets.captions import SCAN, CaptionBenchmark
from xmodal.data.sets.protocols import PROTOCOLS


class Flickr8k(CaptionBenchmark):
    """One pair per caption; official lists of 6,000 / 1,000 / 1,000 photos, 91 photos are in none."""

    name = "flickr8k"
    recipes = PROTOCOLS["flickr8k"]
    forms: ClassVar[Forms] = {
        "kaggle": ("captions.txt", "Flickr_8k.*Images.txt", "*.jpg"),
        "original": ("Flickr8k.token.txt", "Flickr_8k.*Images.txt", "*.jpg"),
        "karpathy": ("dataset_flickr8k.json", "*.jpg"),
        "scan": SCAN,
    }
    origin = "the Hockenmaier group, University of Illinois, on request; Kaggle adityajn105/flickr8k"
    lists = ("Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt", "Flickr_8k.testImages.txt")
