"""Ssense: 15,696 pairs, 4 coarse and 28 fine classes (as HiCHNet prepared it)."""

from xmodal.data.sets.hierarchical import Tagged
from xmodal.data.sets.protocols import PROTOCOLS


class Ssense(Tagged):
    """Pictures with tag vectors; layers of 4 and 28 classes."""

    name = "ssense"
    recipes = PROTOCOLS["ssense"]
    sizes = (4, 28)
    num_classes = 32
