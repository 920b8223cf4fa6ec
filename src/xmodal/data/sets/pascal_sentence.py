"""Pascal Sentence (Rashtchian et al., NAACL workshop 2010): 1,000 photos of 20 classes with five sentences each."""

from pathlib import PurePosixPath
from typing import ClassVar

import numpy as np

from xmodal.data.readers.files import Files, Forms, Photos
from xmodal.data.readers.release import Release
from xmodal.data.sets.benchmark import Benchmark
from xmodal.data.sets.protocols import PROTOCOLS


class PascalSentence(Benchmark):
    """DSCMR's VGG-19 and sentence features with their lists, or photos with their sentences joined."""

    name = "pascal-sentence"
    recipes = PROTOCOLS["pascal-sentence"]
    num_classes = 20
    forms: ClassVar[Forms] = {
        "dscmr": tuple(f"{part}_{side}.mat" for part in ("train", "test") for side in ("img", "txt", "img_lab")),
        "original": ("*.jpg", "*.txt"),
    }
    origin = "the authors of DSCMR (Zhen et al., CVPR 2019); vision.cs.uiuc.edu/pascal-sentences for the photos"

    def original(self) -> Release | None:
        """Photos by class folder; the sentences of a photo are one text."""
        files = Files(self.root)
        photos = [PurePosixPath(entry.name) for entry in files.entries(".jpg")]
        texts = files.find_all([f"{path.parent.name}/{path.stem}.txt" for path in photos])
        if not photos or not all(texts):
            return None
        names = sorted({path.parent.name for path in photos})
        label = np.eye(len(names), dtype=np.uint8)[[names.index(path.parent.name) for path in photos]]
        sentences = [" ".join(files.text(entry).split()) for entry in texts if entry]
        images = Photos(files, [str(path) for path in photos], self.max_corrupt)
        return Release("original", images, sentences, label, tuple(names))
