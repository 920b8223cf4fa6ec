"""FashionVC: 19,862 pairs, 2,685 tags, 8 coarse and 27 fine classes (as HiCHNet prepared it)."""

from xmodal.data.recipes import Cut
from xmodal.data.sets.hierarchical import Tagged, tagged_recipes


class FashionVC(Tagged):
    """Pictures with tag vectors; layers of 8 and 27 classes."""

    name = "fashionvc"
    sizes = (8, 27)
    num_classes = 35
    recipes = tagged_recipes(
        3000,
        19862,
        {"shoh": Cut("file order: 2,000 queries, the rest database and trained on (SHOH)", 2000, None, size=19862)},
    )
