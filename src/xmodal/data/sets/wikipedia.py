"""Wikipedia (Rasiwasia et al., ACM MM 2010): 2,866 articles of 10 categories, with the official features and lists.

Image: 128-d bag of SIFT words. Text: 10-d LDA topics. Official split: 2,173 train, 693 test.
"""

from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from xmodal.data.module import CrossModalDataModule, Pairs
from xmodal.data.readers import dialects
from xmodal.data.readers.arrays import Variable, finite
from xmodal.data.readers.files import Forms, expected
from xmodal.data.readers.release import Release
from xmodal.data.readers.text import decoded, split_lines
from xmodal.data.recipes import Official
from xmodal.data.split import Index, Split
from xmodal.encoders import Arrays
from xmodal.errors import UserError

FILES = ("raw_features.mat", "trainset_txt_img_cat.list", "testset_txt_img_cat.list", "categories.list")
TRAIN, TEST, HELD = 2173, 693, 231
ROLES = {"train": np.arange(TRAIN), "test": np.arange(TRAIN, TRAIN + TEST)}


class Wikipedia(CrossModalDataModule):
    """The official split; validation pairs are cut out of the training set.

    Read are the official features (128-d SIFT words, 10-d topics), `wikiData.mat` (MTFH, TFNH: the same with labels)
    and MRL's `wiki_deep_doc2vec_data_corr_ae.h5py` (CNN and Doc2Vec features), told apart by their keys.

    Args:
        database: `test`: the 693 test pairs are queries and gallery (Rasiwasia et al. and the real-valued methods);
            `train`: the 2,173 training pairs are the gallery (the hashing literature).
        protocol: `official`; or `mrl`: the first 231 test pairs are the validation, the other 462 the test (MRL).
        val: number of validation pairs, cut out of the training set where the protocol and the files bring none.
    """

    name = "wikipedia"
    forms: ClassVar[Forms] = {
        "original": FILES,
        "wikidata": ("wikiData.mat",),
        "mrl": ("wiki_deep_doc2vec_data_corr_ae.h5py",),
    }
    origin = (
        "wikipedia_dataset.zip of the Statistical Visual Computing Laboratory, UC San Diego; the authors of MTFH, MRL"
    )

    def __init__(
        self,
        database: Literal["test", "train"] = "test",
        protocol: Literal["official", "mrl"] = "official",
        val: int = 300,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self.database, self.protocol, self.val = database, protocol, val

    def split(self) -> Split:
        """The official lists: training pairs first, in file order."""
        roles: dict[str, Index] = dict(self.release.roles)
        if self.protocol == "mrl" and "val" not in roles:
            roles |= {"val": roles["test"][:HELD], "test": roles["test"][HELD:]}
        return Official("", self.database).split(self.release.label, roles, self.val)

    def pairs(self) -> Pairs:
        """The features as the files have them."""
        image: Arrays = {"pooled": np.asarray(self.release.image, np.float32)}
        text: Arrays = {"pooled": np.asarray(self.release.text, np.float32)}
        return Pairs(image, text, self.release.label, self.release.label_names)

    @cached_property
    def release(self) -> Release:
        """The original release, or one of the two dialects.

        Raises:
            UserError: a file is missing or damaged, or does not hold what the release holds.
        """
        fits, there = dialects.detect(self.root)
        if not fits:
            return _original(self.root, there)
        release = dialects.read(self.root, fits[0], there, None, 10, 0)
        sizes = {role: len(rows) for role, rows in release.roles.items()}
        if len(fits) > 1 or sizes.get("train") != TRAIN or sum(sizes.values()) != TRAIN + TEST:
            raise UserError(
                f"{self.root} holds {', '.join(fits)} files with {sizes or len(release.label)} pairs, Wikipedia has "
                f"{TRAIN} training and {TEST} other pairs: keep the files of one form there."
            )
        return release


def _original(root: Path, there: dict[str, Variable]) -> Release:
    if missing := [name for name in FILES if not (root / name).is_file()]:
        where = expected(Wikipedia.forms, Wikipedia.origin)
        raise UserError(f"wikipedia: {', '.join(missing)} not found in {root}. {where}")
    shapes = {"I_tr": (TRAIN, 128), "T_tr": (TRAIN, 10), "I_te": (TEST, 128), "T_te": (TEST, 10)}
    for key, shape in shapes.items():
        if key not in there or there[key].shape != shape:
            got = there[key].shape if key in there else "nothing"
            raise UserError(
                f"{root / FILES[0]} holds {got} under {key!r}, the official release {shape}: use the original file."
            )
    names = _lines(root / "categories.list")
    classes = np.concatenate([_classes(root / FILES[1], TRAIN), _classes(root / FILES[2], TEST)])
    if classes.min() < 1 or classes.max() > len(names):
        raise UserError(
            f"a category in the lists is outside 1..{len(names)} of {root / 'categories.list'}: use the original files."
        )
    parts = {key: finite(there[key].read(), str(there[key])) for key in shapes}
    image, text = (np.concatenate([parts[f"{side}_tr"], parts[f"{side}_te"]]) for side in "IT")
    return Release("original", image, text, np.eye(len(names), dtype=np.uint8)[classes - 1], tuple(names), roles=ROLES)


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in split_lines(decoded(path.read_bytes(), str(path))) if line.strip()]


def _classes(path: Path, expected: int) -> NDArray[np.int64]:
    """Third column of an official list: the category, counted from 1."""
    try:
        classes = np.array([int(line.split("\t")[2]) for line in _lines(path)])
    except (IndexError, ValueError) as error:
        raise UserError(
            f"{path} is damaged: a line is not `text<TAB>image<TAB>category` ({error}). Use the original file."
        ) from error
    if len(classes) != expected:
        raise UserError(f"{path} lists {len(classes)} pairs, the official release {expected}: use the original file.")
    return classes
