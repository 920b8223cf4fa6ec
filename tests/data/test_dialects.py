"""Every dialect in circulation, in both .mat versions, by every dataset that meets it."""

import h5py
import numpy as np
import pytest
import scipy.io

from tests.data import make, make_dialects
from xmodal import data
from xmodal.errors import UserError


def djsrh_tc10(root, write):
    make_dialects.djsrh_vgg(root, write, 10, "nus-wide-tc10")
    make_dialects.djsrh_vgg(root, write, 21, "nus-wide-tc21")


def coco_paths(root, write):
    make_dialects.paths(root, write, 80, "label")


CASES = [
    (data.MIRFlickr25K, make_dialects.dcmh, "dcmh", {}),
    (data.MIRFlickr25K, make_dialects.djsrh, "djsrh", {}),
    (data.MIRFlickr25K, make_dialects.djsrh_vgg, "djsrh-vgg", {}),
    (data.MIRFlickr25K, make_dialects.torchcmh, "torchcmh", {}),
    (data.MIRFlickr25K, make_dialects.paths, "dchmt", {}),
    (data.NUSWide, djsrh_tc10, "djsrh-vgg", {"selection": "tc10"}),
    (data.NUSWide, djsrh_tc10, "djsrh-vgg", {"selection": "tc21"}),
    (data.NUSWide, make_dialects.dadh, "dadh", {}),
    (data.MSCOCO, make_dialects.torchcmh_tags, "torchcmh-tags", {}),
    (data.MSCOCO, coco_paths, "mith", {}),
    (data.FashionVC, make_dialects.hichnet, "hichnet", {}),
    (data.FashionVC, make_dialects.torch_vgg, "torch-vgg", {}),
    (data.Wikipedia, make_dialects.wikidata, "wikidata", {}),
    (data.Ssense, make_dialects.hichnet_2, "hichnet-2", {}),
    (data.Food71, make_dialects.torch_food, "torch", {}),
    (data.PascalSentence, make_dialects.dscmr, "dscmr", {}),
    (data.IAPRTC12, make_dialects.ucch_iapr, "ucch-iapr", {}),
    (data.IAPRTC12, make_dialects.torchcmh, "torchcmh", {}),
]


@pytest.mark.parametrize("write", [make_dialects.v5, make_dialects.v73], ids=["v5", "v7.3"])
@pytest.mark.parametrize(("module", "layout", "source", "options"), CASES)
def test_every_dialect_is_found_out_and_read(tmp_path, module, layout, source, options, write):
    layout(tmp_path, write)
    release = module(root=str(tmp_path), **options).release
    assert release.source == source
    assert release.label.any(1).all()
    pairs = len(release.label)
    assert len(release.image) == len(release.text) == pairs
    if isinstance(release.image, np.ndarray):
        assert np.array_equal(release.image[-1], make.features(50, pairs)[-1]) or release.roles
    elif hasattr(release.image, "array"):  # rows and columns of pictures are not swapped
        assert np.array_equal(release.image.array[1], make.pixels(pairs)[1])
    if source.startswith(("dcmh", "djsrh", "torchcmh", "dadh")):
        assert np.array_equal(release.text, make.tags(40, pairs))
        assert np.array_equal(release.label, make.multi_hot(release.label.shape[1], pairs))


@pytest.mark.parametrize("write", [make_dialects.v5, make_dialects.v73], ids=["v5", "v7.3"])
def test_paths_of_another_machine_lead_to_the_pictures(tmp_path, write):
    make_dialects.paths(tmp_path, write)
    module = data.MIRFlickr25K(root=str(tmp_path))
    assert module.caption(3) == "tags of picture 3"
    assert module.picture(3).size == (20, 16)
    assert module.release.image.names[3] == "/home/somebody/photos/im3.jpg"


def test_of_several_captions_the_first_is_taken_and_noted(tmp_path):
    make_dialects.paths(tmp_path, make_dialects.v5, 80, "label", several=True)
    module = data.MSCOCO(root=str(tmp_path))
    assert module.caption(3) == "picture 3 caption 0"
    assert module.release.notes["caption"] == "the first of several, for 30 pairs"


def test_official_lists_of_split_dialects(tmp_path):
    make_dialects.mrl(tmp_path / "xmedianet_deep_doc2vec_data.h5py")
    split = data.XMediaNet(root=str(tmp_path)).split()
    assert split.sizes() == {"train": 210, "val_query": 12, "val_database": 12, "query": 14, "database": 14}


def test_views_in_cells(tmp_path):
    make_dialects.xmedianet_views(tmp_path / "XMediaNet4View_pairs.mat")
    release = data.XMediaNet(root=str(tmp_path)).release
    assert (release.image.shape, release.text.shape, release.label.shape) == ((236, 50), (236, 49), (236, 200))


def test_pickles_give_arrays_and_run_nothing(tmp_path):
    make_dialects.clip4cmr(tmp_path)
    release = data.NUSWide(root=str(tmp_path), selection="10k", protocol="official", val=5).release
    assert (release.image.shape, len(release.roles["test"])) == ((30, 512), 10)
    (tmp_path / "clip_test.pkl").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(UserError, match=r"wants \w+\.system, which is no array"):
        _ = data.NUSWide(root=str(tmp_path), selection="10k", protocol="official").release


def test_arrays_of_ones_own(tmp_path):
    for name, array in {"image": make.features(50), "text": make.tags(40), "label": make.multi_hot(24)}.items():
        np.save(tmp_path / f"{name}.npy", array)
    module = data.MIRFlickr25K(root=str(tmp_path), query=5, train=15, val=4)
    assert module.role("train")["image"]["pooled"].shape == (11, 50)
    assert module.describe()["source"] == "dadh"


def missing_key(root):
    (root / "mirflickr25k-lall.mat").unlink()


def truncated(root):
    path = root / "mirflickr25k-yall.mat"
    path.write_bytes(path.read_bytes()[:300])


def of_other_pairs(root):
    make_dialects.v5(root / "mirflickr25k-yall.mat", YAll=make.tags(40, 29))


def out_of_range(root):
    make_dialects.v5(root / "mirflickr25k-lall.mat", LAll=make.multi_hot(24) * 2)


def other_labels(root):
    make_dialects.v5(root / "mirflickr25k-lall.mat", LAll=make.multi_hot(23))


def two_files(root):
    make_dialects.v5(root / "copy-yall.mat", YAll=make.tags(40))


def two_forms(root):
    make_dialects.v5(root / "imgList.mat", FAll=make.features(50))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (missing_key, r"djsrh-vgg \(UCCH \(VGG features\)\) lacks LAll"),
        (truncated, r"mirflickr25k-yall\.mat is damaged"),
        (of_other_pairs, r"do not belong together.*XAll 30x50.*YAll 29x40"),
        (out_of_range, r"LAll\) holds 2: multi-hot labels are 0 or 1"),
        (other_labels, r"holds 23 labels, the dataset has 24"),
        (two_files, r"'YAll' is in several files.*copy-yall\.mat, mirflickr25k-yall\.mat"),
        (two_forms, r"several forms of mirflickr25k: djsrh-vgg, torchcmh\. Say which with --data\.dialect"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, damage, message):
    make_dialects.djsrh_vgg(tmp_path, make_dialects.v5)
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        _ = data.MIRFlickr25K(root=str(tmp_path)).release


@pytest.mark.parametrize("write", [make_dialects.v5, make_dialects.v73], ids=["v5", "v7.3"])
def test_a_truncated_file_is_damaged_in_both_versions(tmp_path, write):
    make_dialects.torchcmh(tmp_path, write)
    path = tmp_path / "imgList.mat"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=r"imgList\.mat is damaged"):
        _ = data.MIRFlickr25K(root=str(tmp_path)).release


def test_a_dialect_can_be_chosen_and_must_be_there(tmp_path):
    make_dialects.djsrh_vgg(tmp_path, make_dialects.v5)
    two_forms(tmp_path)
    assert data.MIRFlickr25K(root=str(tmp_path), dialect="torchcmh").release.source == "torchcmh"
    with pytest.raises(UserError, match=r"dcmh \(DCMH, SSAH, AGAH, GCH, CPAH\) lacks images"):
        _ = data.MIRFlickr25K(root=str(tmp_path), dialect="dcmh").release
    with pytest.raises(UserError, match=r"data\.dialect is 'matlab'; there are: original, dcmh"):
        data.MIRFlickr25K(dialect="matlab")


def test_axes_that_cannot_be_told_apart_are_refused(tmp_path):
    make_dialects.v5(tmp_path / "imgList.mat", FAll=make.features(24, 30))
    make_dialects.v5(tmp_path / "tagList.mat", YAll=make.tags(30, 24))
    make_dialects.v5(tmp_path / "labelList.mat", LAll=make.multi_hot(24, 30))
    with pytest.raises(UserError, match="which axis counts the pairs cannot be told"):
        _ = data.MIRFlickr25K(root=str(tmp_path)).release


def test_transposed_arrays_without_matlabs_mark_are_turned_by_their_lengths(tmp_path):
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["FAll"], file["YAll"], file["LAll"] = make.features(50).T, make.tags(40), make.multi_hot(24).T
    release = data.MIRFlickr25K(root=str(tmp_path)).release
    assert np.array_equal(release.image, make.features(50))
    assert np.array_equal(release.label, make.multi_hot(24))


def test_classes_must_be_a_tree(tmp_path):
    make_dialects.hichnet(tmp_path, make_dialects.v5)
    label = make_dialects.layered(8, 27, 60)
    label[0, :8] = np.eye(8)[5]
    scipy.io.savemat(tmp_path / "label.mat", {"Label": label})
    with pytest.raises(UserError, match=r"do not have one parent each \(1 has 2; 1 pairs\)"):
        _ = data.FashionVC(root=str(tmp_path)).release
    release = data.FashionVC(root=str(tmp_path), off_tree="drop").release
    assert (len(release.label), release.notes["left_out_off_tree"]) == (59, 1)
    label[1, :8] = 0
    scipy.io.savemat(tmp_path / "label.mat", {"Label": label})
    with pytest.raises(UserError, match="1 pairs have not exactly one class of layer 1"):
        _ = data.FashionVC(root=str(tmp_path)).release
