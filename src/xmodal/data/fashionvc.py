"""FashionVC: 19,862 pairs, 2,685 tags, 8 coarse and 27 fine classes (as HiCHNet prepared it)."""

from xmodal.data.benchmark import hashing_recipes
from xmodal.data.hierarchical import DRIVE, EXPECTED, TwoLayers
from xmodal.data.recipes import Cut


class FashionVC(TwoLayers):
    """Pictures with tag vectors; layers of 8 and 27 classes."""

    name = "fashionvc"
    sizes = (8, 27)
    num_classes = 35
    expected, origin = EXPECTED, DRIVE
    recipes = hashing_recipes(
        3000,
        None,
        before={
            "hichnet": Cut(
                "file order: 3,000 queries, the rest database and trained on (HiCHNet, SHDCH)", 3000, None, size=19862
            ),
            "hmch": Cut(
                "RandomState(1234): 3,000 queries, the rest database and trained on (HMCH)",
                3000,
                None,
                "legacy",
                1234,
                size=19862,
            ),
            "shoh": Cut("file order: 2,000 queries, the rest database and trained on (SHOH)", 2000, None, size=19862),
        },
    )
