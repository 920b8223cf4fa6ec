"""Datasets whose labels have two layers, as the hierarchical hashing papers use them: coarse, then fine classes.

FashionVC and Ssense (Sun et al., HiCHNet, SIGIR 2019), Food-71 (TORCH).
"""

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from xmodal.data.readers.files import Forms
from xmodal.data.readers.release import Release, layers, off_tree
from xmodal.data.sets.benchmark import Benchmark
from xmodal.errors import UserError
from xmodal.relevance import Rule


class TwoLayers(Benchmark):
    """A benchmark whose last label columns are the finer layer; relevant is the same class of the finest layer.

    Args:
        relevance: see `CrossModalDataModule`.
        off_tree: what to do with pairs that give a class another parent than most of its pairs do: `refuse` names the
            classes, `drop` leaves the pairs out and counts them.
    """

    sizes: ClassVar[tuple[int, int]]

    def __init__(
        self,
        relevance: Rule = "finest",
        off_tree: Literal["refuse", "drop"] = "refuse",
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(relevance=relevance, **kwargs)
        self.off_tree = off_tree

    def arrange(self, release: Release) -> Release:
        """Read the layers out of the labels, and check that they are a tree."""
        hierarchy = layers(release.label, self.sizes, str(self.root))
        names = tuple(f"coarse{k}" for k in range(1, self.sizes[0] + 1))
        names += tuple(f"fine{k}" for k in range(1, self.sizes[1] + 1))
        release = replace(release, hierarchy=hierarchy, label_names=names)
        wrong, several = off_tree(hierarchy)
        if not several:
            return release
        if self.off_tree == "refuse":
            named = ", ".join(f"{child + 1} has {len(parents)}" for (_, child), parents in sorted(several.items())[:10])
            raise UserError(
                f"the fine classes of {self.root} do not have one parent each ({named}; {int(wrong.sum())} pairs): is "
                "it another set? --data.off_tree=drop leaves those pairs out."
            )
        return release.take(np.flatnonzero(~wrong), left_out_off_tree=int(wrong.sum()))

    def original(self) -> Release | None:
        """These sets exist as prepared arrays only."""
        return None


class Tagged(TwoLayers):
    """FashionVC and Ssense: pictures with tag vectors, as HiCHNet prepared them or with TORCH's VGG features."""

    forms: ClassVar[Forms] = {
        "hichnet": ("image.mat", "tag.mat", "label.mat"),
        "hichnet-2": ("NImage.mat", "Tags.mat", "Label.mat"),
        "torch": ("image_vgg.mat", "tag.mat", "label.mat"),
    }
    origin = "the authors of HiCHNet and of TORCH (Google Drive and Baidu, linked from their repositories)"
