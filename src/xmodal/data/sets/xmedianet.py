"""XMediaNet (Peng, Huang and Qi, TCSVT 2019): 40,000 image-text pairs of 200 classes, as features."""

from typing import ClassVar

import numpy as np

from xmodal.data.readers.arrays import finite, variables
from xmodal.data.readers.files import Forms
from xmodal.data.readers.release import Release, multi_hot
from xmodal.data.sets.benchmark import Benchmark
from xmodal.data.sets.protocols import PROTOCOLS
from xmodal.errors import UserError


class XMediaNet(Benchmark):
    """VGG-19 and Doc2Vec features with their lists: 32,000 / 4,000 / 4,000."""

    name = "xmedianet"
    recipes = PROTOCOLS["xmedianet"]
    num_classes = 200
    forms: ClassVar[Forms] = {"mrl": ("xmedianet_deep_doc2vec_data.h5py",), "original": ("XMediaNet4View_pairs.mat",)}
    origin = "the authors of MRL (Hu et al., CVPR 2021); raw data on application to Peking University"

    def original(self) -> Release | None:
        """`XMediaNet4View_pairs.mat`: cells of views by list, the first two of which are images and texts."""
        there = variables(self.root)
        parts = [part for part in ("train", "valid", "test") if part in there and f"{part}_labels" in there]
        if not {"train", "test"} <= set(parts):
            return None
        views = [there[part].read() for part in parts]
        classes = [there[f"{part}_labels"].read() for part in parts]
        if any(each.dtype != object or len(each) < 2 for each in (*views, *classes)):
            raise UserError(f"{there['train']} holds no cells of at least two views: use the original file.")
        image, text = (
            finite(np.concatenate([each[view] for each in views]), f"{there['train'].path}, view {view + 1},")
            for view in (0, 1)
        )
        sides = [np.concatenate([np.ravel(each[view]) for each in classes]) for view in (0, 1)]
        if len(image) != len(text) or not np.array_equal(sides[0], sides[1]):
            raise UserError(
                f"{there['train'].path} does not hold pairs: images and texts differ in number or in class."
            )
        bounds = np.cumsum([0, *(len(each[0]) for each in views)])
        roles = {{"valid": "val"}.get(part, part): np.arange(bounds[k], bounds[k + 1]) for k, part in enumerate(parts)}
        label = multi_hot(sides[0], str(there["train"].path), self.num_classes)
        names = tuple(f"class{number}" for number in range(1, label.shape[1] + 1))
        return Release("original", image, text, label, names, roles=roles)
