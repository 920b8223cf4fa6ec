"""Ssense: 15,696 pairs, 4 coarse and 28 fine classes (as HiCHNet prepared it)."""

from xmodal.data.sets.hierarchical import Tagged, tagged_recipes


class Ssense(Tagged):
    """Pictures with tag vectors; layers of 4 and 28 classes."""

    name = "ssense"
    sizes = (4, 28)
    num_classes = 32
    recipes = tagged_recipes(2000, 15696)
