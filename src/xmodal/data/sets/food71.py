"""Food-71: 30,817 recipes' photos with 316 ingredients, 5 coarse and 66 fine classes (as TORCH prepared it)."""

from typing import ClassVar

from xmodal.data.readers.files import Forms
from xmodal.data.sets.hierarchical import TwoLayers
from xmodal.data.sets.protocols import PROTOCOLS


class Food71(TwoLayers):
    """VGG or AlexNet features with ingredient vectors; layers of 5 and 66 classes.

    The keys `image_vgg`, `ingredient` and `label` are those that TORCH's program reads; `image_alexnet` is named as its
    file.
    """

    name = "food71"
    recipes = PROTOCOLS["food71"]
    sizes = (5, 66)
    num_classes = 71
    forms: ClassVar[Forms] = {"torch": ("label.mat", "ingredient.mat", "image_*.mat")}
    origin = "the authors of TORCH (linked from their repository)"
