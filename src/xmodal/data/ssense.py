"""Ssense: 15,696 pairs, 4 coarse and 28 fine classes (as HiCHNet prepared it)."""

from xmodal.data.benchmark import hashing_recipes
from xmodal.data.hierarchical import DRIVE, EXPECTED, TwoLayers
from xmodal.data.recipes import Cut


class Ssense(TwoLayers):
    """Pictures with tag vectors; layers of 4 and 28 classes."""

    name = "ssense"
    sizes = (4, 28)
    num_classes = 32
    expected, origin = EXPECTED, DRIVE
    recipes = hashing_recipes(
        2000,
        None,
        before={
            "hichnet": Cut(
                "file order: 2,000 queries, the rest database and trained on (HiCHNet, SHDCH)", 2000, None, size=15696
            ),
            "hmch": Cut(
                "RandomState(1234): 2,000 queries, the rest database and trained on (HMCH)",
                2000,
                None,
                "legacy",
                1234,
                size=15696,
            ),
        },
    )
