"""IAPR TC-12 (Grubinger et al., LREC workshop 2006; labels of Escalante et al., CVIU 2010): about 20,000 photos."""

from xmodal.data.benchmark import Benchmark, hashing_recipes
from xmodal.data.recipes import Cut, Official
from xmodal.data.release import Release


class IAPRTC12(Benchmark):
    """Features or photos with tags or captions and 255, 275 or 291 labels, as the files have it."""

    name = "iapr-tc12"
    expected = (
        "iapr-tc12-rand.mat (UCCH); or imgList/tagList/labelList.mat (torchcmh); or index/caption/label.mat with the "
        "photos"
    )
    origin = "the authors of the methods named; photos from imageclef.org/photodata"
    recipes = hashing_recipes(
        2000,
        10000,
        {
            "official": Official("the lists of UCCH's file: its test pairs against its database", database="train"),
            "ucch": Cut(
                "file order: the last 2,000 are queries, the first 10,000 train (UCCH)", 2000, 10000, last=True
            ),
            "dchmt": Cut("RandomState(1814): 5,000 queries, 10,000 train (QinLab)", 5000, 10000, "legacy", 1814),
        },
    )

    def original(self) -> Release | None:
        """No reader: the field uses the dialects, whose labels the photos alone do not bring."""
        return None
