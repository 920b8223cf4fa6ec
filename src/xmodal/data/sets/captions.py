"""Pictures with several captions each: one pair per caption, ranked by R@K over the captions of a picture.

Flickr8k (Hodosh et al., JAIR 2013), Flickr30k (Young et al., TACL 2014).
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from xmodal.data.readers.arrays import Variable, finite
from xmodal.data.readers.files import Entry, Files, Photos
from xmodal.data.readers.release import Release, indicator
from xmodal.data.readers.text import csv_rows, decoded, split_lines
from xmodal.data.sets.benchmark import Benchmark
from xmodal.encoders import Arrays
from xmodal.errors import UserError
from xmodal.relevance import Rule

ROLES = ("train", "val", "test")
SCAN = ("train_ims.npy", "train_caps.txt", "dev_ims.npy", "dev_caps.txt", "test_ims.npy", "test_caps.txt")
WORDS = 100  # labels of a caption dataset, see `content_words`
_STOP = """a an the of in on at with and or is are was be being been as by for from into onto over under up
down out off near to next front behind while his her its their them they he she it this that these
those there some one two three four other another who which has have wearing holding looking"""
STOP_WORDS = frozenset(_STOP.split())


class CaptionBenchmark(Benchmark):
    """One pair per caption; `group` is the picture, and relevant is what shows or describes the same picture.

    These datasets have no labels. Methods that need some get a stand-in: which of the 100 most frequent content words
    of the training captions occur in a picture's captions. Evaluation does not use it unless `relevance` is `label`.

    Args:
        relevance: see `CrossModalDataModule`.
    """

    lists: ClassVar[tuple[str, ...]] = ()

    def __init__(self, relevance: Rule = "group", **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(relevance=relevance, **kwargs)

    def original(self) -> Release | None:
        """Captions with photos (or Karpathy's JSON with photos), or SCAN's region features."""
        files = Files(self.root)
        found = self._karpathy(files) or self._captions(files)
        if found is None:
            return self._scan()
        names, captions, roles = found
        rows = np.repeat(np.arange(len(names)), [len(each) for each in captions])
        photos = Photos(files, names, self.max_corrupt)
        return captioned(photos, captions, rows, roles)

    def _karpathy(self, files: Files) -> tuple[list[str], list[list[str]], dict[str, list[int]]] | None:
        """`dataset_<name>.json`: photos, sentences and splits."""
        entry = the_one(files, files.entries(f"dataset_{self.name}.json"))
        if entry is None:
            return None
        names, splits, captions = karpathy(files, entry)
        return names, captions, {role: [k for k, each in enumerate(splits) if each == role] for role in ROLES}

    def _captions(self, files: Files) -> tuple[list[str], list[list[str]], dict[str, list[int]]] | None:
        """`captions.txt` (Kaggle), `*.token.txt` (original) or `results.csv`, with the official lists if any."""
        endings = ("captions.txt", "results.csv", ".token.txt", ".token")
        found = (
            [each for each in files.entries(ending) if ".lemma." not in each.name]  # the release has its lemmas too
            for ending in endings
        )
        entry = the_one(files, next(filter(None, found), []))
        if entry is None:
            return None
        by_name: dict[str, list[str]] = {}
        for name, caption in _rows(files.text(entry), str(entry.path)):
            by_name.setdefault(name, []).append(caption)
        names = list(by_name)
        row = {name: position for position, name in enumerate(names)}
        roles: dict[str, list[int]] = {}
        lists = {file: files.find(file) for file in self.lists}
        if any(lists.values()) and not all(lists.values()):
            lacking = ", ".join(file for file, listed in lists.items() if not listed)
            raise UserError(f"{self.root} lacks {lacking}, beside which the other lists lie: add what is missing.")
        for role, (file, listed) in zip(ROLES, lists.items(), strict=True):
            if listed is not None:
                lines = files.lines(listed)
                if unknown := [line for line in lines if line not in row]:
                    raise UserError(f"{file} lists {len(unknown)} photos without captions, such as {unknown[0]}.")
                roles[role] = [row[line] for line in lines]
        return names, list(by_name.values()), roles

    def _scan(self) -> Release | None:
        """SCAN's `{train,dev,test}_ims.npy` (N, 36, 2048) with `{...}_caps.txt`, five captions to a picture."""
        images: list[NDArray[Any]] = []
        captions: list[list[str]] = []
        roles: dict[str, list[int]] = {}
        pooled: list[NDArray[Any]] = []
        for role, file in (("train", "train"), ("val", "dev"), ("test", "test")):
            features, texts = self.root / f"{file}_ims.npy", self.root / f"{file}_caps.txt"
            if not (features.is_file() and texts.is_file()):
                return None
            regions = Variable(features, features.stem, ()).read()
            if regions.ndim != 3 or not regions.size or regions.dtype.kind not in "iuf":
                raise UserError(f"{features} holds {regions.dtype} {regions.shape}: numbers of pictures x regions x D.")
            lines = [line.strip() for line in split_lines(decoded(texts.read_bytes(), str(texts)))]
            while lines and not lines[-1] and len(lines) not in (len(regions), 5 * len(regions)):
                lines.pop()  # blank lines at the end, where they are not captions
            if len(regions) == len(lines) and len(lines) % 5 == 0:  # some files repeat a picture for every caption
                regions = regions[::5]
            if len(lines) != 5 * len(regions):
                raise UserError(
                    f"{features} holds {regions.shape} for {len(lines)} captions: five captions to a picture."
                )
            start = len(captions)
            roles[role] = list(range(start, start + len(regions)))
            images.append(regions)
            with np.errstate(invalid="ignore", over="ignore"):  # which is refused in the next line
                means = np.stack([each.mean(0) for each in regions])
            pooled.append(finite(means, f"{features} (mean over regions)"))
            captions += [lines[k : k + 5] for k in range(0, len(lines), 5)]
        arrays: Arrays = {"pooled": np.concatenate(pooled)}
        if self.tokens:
            arrays["tokens"] = np.concatenate(images)
        return captioned(arrays, captions, np.repeat(np.arange(len(captions)), 5), roles, "scan")


def the_one(files: Files, entries: Sequence[Entry]) -> Entry | None:
    """The first of some files, which are copies of one, such as a zip's beside what was unpacked of it.

    Raises:
        UserError: they differ.
    """
    if len(entries) > 1 and len({files.read(each) for each in entries}) > 1:
        named = " and ".join(f"{each.name} in {each.path}" for each in entries[:3])
        raise UserError(f"{named} differ: keep the one that is meant.")
    return next(iter(entries), None)


def karpathy(files: Files, entry: Entry) -> tuple[list[str], list[str], list[list[str]]]:
    """File name, split (`train`, `val` or `test`) and captions of every photo of a `dataset_<name>.json`.

    Raises:
        UserError: the file is damaged, or names another split.
    """
    try:
        images = files.json(entry)["images"]
        splits = ["train" if image["split"] == "restval" else str(image["split"]) for image in images]
        captions = [[sentence["raw"].strip() for sentence in image["sentences"]] for image in images]
        names = [str(image["filename"]) for image in images]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{entry.path} is damaged ({error!r}): download it again.") from error
    if wrong := set(splits) - set(ROLES):
        raise UserError(f"{entry.path} has the split {wrong.pop()!r}: use Karpathy's file.")
    return names, splits, captions


def captioned(
    images: Photos | Arrays,
    captions: Sequence[Sequence[str]],
    rows: NDArray[np.int64],
    roles: dict[str, list[int]],
    source: str = "original",
) -> Release:
    """One pair per caption, in the order of the pictures; `roles` lists pictures."""
    positions = {role: np.flatnonzero(np.isin(rows, listed)) for role, listed in roles.items()}
    label, names = content_words(captions, roles.get("train", range(len(captions))))
    texts = [caption for each in captions for caption in each]
    unlisted = len(captions) - len({row for listed in roles.values() for row in listed}) if roles else 0
    notes = {"images": len(captions), "images_in_no_list": unlisted, "labels_are": "frequent words of the captions"}
    return Release(source, images, texts, label[rows], names, rows, group=rows, roles=positions, notes=notes)


def content_words(captions: Sequence[Sequence[str]], train: Sequence[int]) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """(M, C) which frequent words occur in the captions of each picture, and the words; the last label is "none"."""
    words = [
        {w for caption in each for w in caption.lower().split() if w.isalpha() and w not in STOP_WORDS}
        for each in captions
    ]
    counts = Counter(word for row in train for word in words[row])
    names = sorted(counts, key=lambda word: (-counts[word], word))[:WORDS]
    label = indicator(words, names)
    none = ~label.any(1, keepdims=True)
    return np.concatenate([label, none.astype(np.uint8)], 1), (*names, "none of these words")


def _rows(content: str, path: str) -> list[tuple[str, str]]:
    """Photo and caption of every line, in any of the three layouts."""
    first = content.partition("\n")[0]
    if first.replace(" ", "").startswith("image_name|"):
        cells = [re.split(r"\|\s*\d+\s*\|?", line, maxsplit=1) for line in split_lines(content)[1:] if line.strip()]
        rows = [(cell[0].strip(), cell[1].strip()) for cell in cells if len(cell) == 2]  # one line lacks its second bar
    elif "#0\t" in first:
        cells = [re.split(r"#\d+\t", line, maxsplit=1) for line in split_lines(content) if line.strip()]
        rows = [(cell[0], cell[1].strip()) for cell in cells if len(cell) == 2]
    else:
        header, *cells = csv_rows(content, path) or [[]]
        number = r"\s*\d+\s*,?" if len(header) > 2 else ""  # image_name,comment_number,comment
        rows = [(cell[0], re.sub(f"^{number}", "", ",".join(cell[1:])).strip()) for cell in cells if len(cell) > 1]
    if len(rows) != len(cells) or not rows:
        raise UserError(f"{path} is damaged: {len(cells) - len(rows)} lines have no caption. Download it again.")
    return rows
