import shutil

import numpy as np
import pytest
import scipy.io

from tests.data import make_dialects
from xmodal.data import Wikipedia
from xmodal.errors import UserError


@pytest.fixture
def root(wikipedia_root, tmp_path):
    return shutil.copytree(wikipedia_root, tmp_path / "wikipedia")


def test_official_split_and_sizes(root):
    test, train = Wikipedia(root=str(root)), Wikipedia(root=str(root), database="train")
    assert test.describe()["split_sizes"] == {
        "train": 1873,
        "val_query": 300,
        "val_database": 300,
        "query": 693,
        "database": 693,
    }
    assert train.describe()["split_sizes"] == {
        "train": 1873,
        "val_query": 300,
        "val_database": 1873,
        "query": 693,
        "database": 2173,
    }
    assert (test.image_dim, test.text_dim, test.num_labels) == (128, 10, 10)
    assert (test.role("query")["label"].sum(1) == 1).all()


def test_rows_keep_their_order(root):
    pairs = Wikipedia(root=str(root)).pairs()
    features = scipy.io.loadmat(root / "raw_features.mat")
    assert np.allclose(pairs.image["pooled"][2173], features["I_te"][0])
    line = (root / "testset_txt_img_cat.list").read_text().splitlines()[0]
    assert pairs.label[2173].argmax() == int(line.split("\t")[2]) - 1


def test_a_missing_file_says_what_is_expected_where(root):
    (root / "categories.list").unlink()
    with pytest.raises(
        UserError, match=r"categories\.list not found in .*Expected there: raw_features\.mat.*XMODAL_DATA"
    ):
        Wikipedia(root=str(root)).role("train")


def truncated(root):
    path = root / "raw_features.mat"
    path.write_bytes(path.read_bytes()[:5000])


def other_shape(root):
    scipy.io.savemat(root / "raw_features.mat", {"I_tr": np.zeros((3, 128))})


def short_list(root):
    path = root / "testset_txt_img_cat.list"
    path.write_text("\n".join(path.read_text().splitlines()[:100]))


def broken_line(root):
    path = root / "testset_txt_img_cat.list"
    path.write_text(path.read_text().replace("\t", " ", 2))


def wrong_category(root):
    path = root / "testset_txt_img_cat.list"
    first, rest = path.read_text().split("\n", 1)
    path.write_text(first.rsplit("\t", 1)[0] + "\t11\n" + rest)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncated, "raw_features.mat is damaged"),
        (other_shape, r"holds \(3, 128\) under 'I_tr', the official release \(2173, 128\)"),
        (short_list, "lists 100 pairs, the official release 693"),
        (broken_line, "is damaged: a line is not"),
        (wrong_category, r"a category in the lists is outside 1\.\.10"),
    ],
)
def test_damaged_files_are_named(root, damage, message):
    damage(root)
    with pytest.raises(UserError, match=message):
        Wikipedia(root=str(root)).role("train")


@pytest.mark.parametrize("parts", [(("train", 2173), ("test", 693)), (("train", 2173), ("valid", 231), ("test", 462))])
def test_mrl_validates_on_the_first_test_pairs(tmp_path, parts):
    make_dialects.mrl(tmp_path / "wiki_deep_doc2vec_data_corr_ae.h5py", 10, parts)
    module = Wikipedia(root=str(tmp_path), protocol="mrl")
    sizes = {"train": 2173, "val_query": 231, "val_database": 231, "query": 462, "database": 462}
    assert module.split().sizes() == sizes
    assert module.split().query[0] == 2173 + 231
    assert module.image_dim == 50


def test_wikidata_is_the_official_split(tmp_path, root):
    make_dialects.wikidata(tmp_path, make_dialects.v73)
    assert (
        Wikipedia(root=str(tmp_path), database="train").split().hash
        == Wikipedia(root=str(root), database="train").split().hash
    )
