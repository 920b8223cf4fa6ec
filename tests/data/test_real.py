"""The readers on real files, with the counts that the releases have; skipped where the files are not at hand."""

import os
from pathlib import Path

import numpy as np
import pytest

from xmodal import data
from xmodal.data.sets.nuswide import TC10, TC21

ROOT = Path(os.environ.get("XMODAL_SHARED", "nowhere"))
pytestmark = pytest.mark.skipif(
    not ROOT.is_dir(), reason="the real files are not at hand (XMODAL_SHARED names the folder of their folders)"
)


def sizes(release):
    return {role: len(rows) for role, rows in release.roles.items()}


def test_wikipedia():
    module = data.Wikipedia(root=str(ROOT / "wikipedia"))
    assert sizes(module.release) == {"train": 2173, "test": 693}
    assert (module.release.image.shape, module.release.text.shape) == ((2866, 128), (2866, 10))
    assert (module.release.label.sum(1) == 1).all()


def test_fashion():
    module = data.Fashion(root=str(ROOT / "fashion"))
    release = module.release
    split = module.recipe.split(release.label, release.roles, module.val)  # `split()` decodes every photo first
    assert len(release.image) == 44072
    assert all(release.image.found)
    assert (len(release.label), (release.hierarchy.max(0) + 1).tolist()) == (41821, [4, 23, 53])
    for layer in (1, 2):  # a tree: one parent each
        edges = np.unique(release.hierarchy[:, layer - 1 : layer + 1], axis=0)
        assert len(edges) == release.hierarchy[:, layer].max() + 1
    assert split.sizes() == {"train": 9500, "val_query": 500, "val_database": 9500, "query": 2000, "database": 39821}
    split.check(release.label)
    every = data.Fashion(root=str(ROOT / "fashion"), labels="attributes", relevance="label").release
    assert every.label.shape == (44072, 239)
    assert every.notes["left_out_labels"] == ["usage:Casual"]
    assert every.label.any(1).all()


def test_flickr8k():
    release = data.Flickr8k(root=str(ROOT / "flickr8k")).release
    assert (len(release.image), len(release.text)) == (8091, 40455)
    assert all(release.image.found)
    assert sizes(release) == {"train": 30000, "val": 5000, "test": 5000}
    assert release.notes["images_in_no_list"] == 91


def test_coco():
    root = str(ROOT / "coco")
    assert len(data.MSCOCO(root=root, captions="all").release.image) == 345
    module = data.MSCOCO(root=root)
    module.num_classes = None
    assert len(module.release.label) == 266


def test_mirflickr_dialect(tmp_path):
    for part in ("yall", "lall"):
        (tmp_path / f"mirflickr25k-{part}.mat").symlink_to(ROOT / "mirflickr25k" / f"mirflickr25k-{part}.mat")
    np.save(tmp_path / "XAll.npy", np.zeros((20015, 2), np.float32))  # no image side exists here
    module = data.MIRFlickr25K(root=str(tmp_path), protocol="dcmh")
    assert (module.release.source, module.release.text.shape, module.release.label.shape) == (
        "djsrh-vgg",
        (20015, 1386),
        (20015, 24),
    )
    assert module.split().sizes() | {"train": 10000} == {
        "train": 10000,
        "val_query": 500,
        "val_database": 9500,
        "query": 2000,
        "database": 18015,
    }
    for protocol in ("torchcmh", "mith", "ucch", "djsrh"):
        split = data.MIRFlickr25K(root=str(tmp_path), protocol=protocol).split()
        split.check(module.release.label)
        assert len(split.query) + len(split.database) == 20015


def test_nuswide_selections(tmp_path):
    """The concepts of the real photos, written as the release lays them out."""
    names = [line.split()[1] for line in (ROOT / "nuswide" / "label_ids.txt").read_text().splitlines()]
    ids = (ROOT / "nuswide" / "full_image_id.txt").read_text().split()
    label = np.zeros((len(ids), len(names)), np.uint8)
    for line in (ROOT / "nuswide" / "mul_label_ids.txt").read_text().splitlines():
        row, *columns = map(int, line.split())
        label[row, columns] = 1
    (tmp_path / "AllLabels").mkdir()
    for name in TC21:
        lines = b"\n".join(np.where(label[:, names.index(name)], b"1", b"0"))
        (tmp_path / "AllLabels" / f"Labels_{name}.txt").write_bytes(lines)
    (tmp_path / "Imagelist.txt").write_text("\n".join(f"actor\\0001_{number}.jpg" for number in ids))
    (tmp_path / "All_Tags.txt").write_text("\n".join(f"{number} tag" for number in ids))
    first = int(np.flatnonzero(label[:, [names.index(name) for name in TC10]].any(1))[0])
    (tmp_path / f"0001_{ids[first]}.jpg").write_bytes(b"")
    for selection, pairs in (("tc21", 195834), ("tc10", 186577)):
        release = data.NUSWide(root=str(tmp_path), selection=selection, text="words").release
        assert len(release.label) == pairs
        assert release.notes["left_out_without_label"] == 269648 - pairs
