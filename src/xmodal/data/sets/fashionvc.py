"""FashionVC: 19,862 pairs, 2,685 tags, 8 coarse and 27 fine classes (as HiCHNet prepared it)."""

from xmodal.data.sets.hierarchical import Tagged
from xmodal.data.sets.protocols import PROTOCOLS


class FashionVC(Tagged):
    """Pictures with tag vectors; layers of 8 and 27 classes."""

    name = "fashionvc"
    recipes = PROTOCOLS["fashionvc"]
    sizes = (8, 27)
    num_classes = 35
