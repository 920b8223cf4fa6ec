"""Wikipedia (Rasiwasia et al., ACM MM 2010): 2,866 articles of 10 categories, with the official features and lists.

Image: 128-d bag of SIFT words. Text: 10-d LDA topics. Official split: 2,173 train, 693 test.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import scipy.io
from numpy.typing import NDArray

from xmodal.data.module import CrossModalDataModule, Pairs
from xmodal.data.protocol import Split, make_split
from xmodal.encoders import Arrays
from xmodal.errors import UserError

FILES = ("raw_features.mat", "trainset_txt_img_cat.list", "testset_txt_img_cat.list", "categories.list")
TRAIN, TEST = 2173, 693


class Wikipedia(CrossModalDataModule):
    """The official features and split; validation pairs are cut out of the training set.

    Args:
        database: `test`: the 693 test pairs are queries and gallery (Rasiwasia et al. and the real-valued methods);
            `train`: the 2,173 training pairs are the gallery (the hashing literature).
        val: number of validation pairs, cut out of the training set.
    """

    name = "wikipedia"

    def __init__(self, database: Literal["test", "train"] = "test", val: int = 300, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(**kwargs)
        self.database, self.val = database, val

    def split(self) -> Split:
        """The official lists: training pairs first, in file order."""
        return make_split(np.arange(TRAIN), np.arange(TRAIN, TRAIN + TEST), self.val, seed=0, database=self.database)

    def pairs(self) -> Pairs:
        """Read the original release.

        Raises:
            UserError: a file is missing or damaged, or does not hold what the release holds.
        """
        _require(self.root)
        path = self.root / "raw_features.mat"
        try:
            features = scipy.io.loadmat(path)
        except (ValueError, OSError, NotImplementedError, TypeError) as error:
            raise UserError(f"{path} is damaged or no MATLAB v5 file ({error}): download it again.") from error
        shapes = {"I_tr": (TRAIN, 128), "T_tr": (TRAIN, 10), "I_te": (TEST, 128), "T_te": (TEST, 10)}
        for key, shape in shapes.items():
            if key not in features or features[key].shape != shape:
                got = features[key].shape if key in features else "nothing"
                raise UserError(
                    f"{path} holds {got} under {key!r}, the official release {shape}: use the original file."
                )
        names = (self.root / "categories.list").read_text().split()
        classes = np.concatenate(
            [_classes(self.root / f"{part}set_txt_img_cat.list", n) for part, n in (("train", TRAIN), ("test", TEST))]
        )
        if classes.min() < 1 or classes.max() > len(names):
            raise UserError(
                f"a category in the lists is outside 1..{len(names)} of {self.root / 'categories.list'}: "
                "use the original files."
            )
        label = np.eye(len(names), dtype=np.uint8)[classes - 1]
        image: Arrays = {"pooled": np.concatenate([features["I_tr"], features["I_te"]]).astype(np.float32)}
        text: Arrays = {"pooled": np.concatenate([features["T_tr"], features["T_te"]]).astype(np.float32)}
        return Pairs(image, text, label, tuple(names))


def _require(root: Path) -> None:
    missing = [name for name in FILES if not (root / name).is_file()]
    if missing:
        raise UserError(
            f"wikipedia: {', '.join(missing)} not found in {root}. Expected there: {', '.join(FILES)}, from "
            "wikipedia_dataset.zip of the Statistical Visual Computing Laboratory, UC San Diego (Rasiwasia et al.). "
            "Put them there, or name the folder with --data.root or XMODAL_DATA (see data/README.md)."
        )


def _classes(path: Path, expected: int) -> NDArray[np.int64]:
    """Third column of an official list: the category, counted from 1."""
    try:
        classes = np.array([int(line.split("\t")[2]) for line in path.read_text().splitlines() if line.strip()])
    except (IndexError, ValueError) as error:
        raise UserError(
            f"{path} is damaged: a line is not `text<TAB>image<TAB>category` ({error}). Use the original file."
        ) from error
    if len(classes) != expected:
        raise UserError(f"{path} lists {len(classes)} pairs, the official release {expected}: use the original file.")
    return classes
