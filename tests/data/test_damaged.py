"""Files that are damaged, incomplete, of another form, or made to do harm: each kind of reader names what is wrong."""

import json
import pickle
import resource
import time
import zipfile

import h5py
import numpy as np
import pytest

from tests.data import make, make_dialects
from xmodal import data
from xmodal.data.readers.arrays import listed
from xmodal.data.readers.files import Files, Photos
from xmodal.data.readers.release import multi_hot
from xmodal.data.sets.nuswide import TC21
from xmodal.errors import UserError

OWN = {"image": make.features(50), "text": make.tags(40), "label": make.multi_hot(24)}


def npy(root):
    for name, array in OWN.items():
        np.save(root / f"{name}.npy", array)


def npz(root):
    np.savez(root / "all.npz", **OWN)


def h5(root):
    with h5py.File(root / "all.h5", "w") as file:
        for name, array in OWN.items():
            file[name] = array


@pytest.mark.parametrize(("write", "name"), [(npy, "text.npy"), (npz, "all.npz"), (h5, "all.h5")])
def test_arrays_in_any_file_are_read_and_a_truncated_one_is_named(tmp_path, write, name):
    write(tmp_path)
    assert np.array_equal(data.MIRFlickr25K(root=str(tmp_path)).release.text, OWN["text"])
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=rf"{name} is damaged or not what its name says .*: download it again"):
        _ = data.MIRFlickr25K(root=str(tmp_path)).release


def test_a_truncated_pickle_is_named(tmp_path):
    make_dialects.clip4cmr(tmp_path)
    path = tmp_path / "clip_train.pkl"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(UserError, match=r"clip_train\.pkl is damaged"):
        _ = data.NUSWide(root=str(tmp_path), selection="10k").release


def test_a_pickled_array_of_objects_runs_nothing(tmp_path):
    npy(tmp_path)
    np.save(tmp_path / "image.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"image\.npy holds an object array, which is a pickle"):
        _ = data.MIRFlickr25K(root=str(tmp_path)).release


def test_an_array_that_claims_more_than_memory_holds_is_refused(tmp_path):
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**40, 2**10)}
    with (tmp_path / "image.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(bytes(64))
    with pytest.raises(UserError, match=r"image\.npy"):
        _ = data.MIRFlickr25K(root=str(tmp_path)).release


def test_a_member_of_a_zip_whose_bytes_changed_is_named(tmp_path):
    make.zipped(tmp_path / "a.zip", {"1.txt": "some words " * 9})
    raw = bytearray((tmp_path / "a.zip").read_bytes())
    raw[40] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(raw)
    files = Files(tmp_path)
    with pytest.raises(UserError, match=r"1\.txt in .*a\.zip is damaged"):
        files.read(files.find("1.txt"))


def test_a_name_in_a_list_does_not_lead_out_of_the_folder(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(make.jpeg(0))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "1.jpg").write_bytes(make.jpeg(1))
    photos = Photos(Files(tmp_path / "set"), ["1.jpg", "../secret.jpg", str(tmp_path / "secret.jpg")])
    assert [entry is not None for entry in photos.found] == [True, False, False]


def edited(name, old, new):
    def damage(root):
        path = next(root.rglob(name))
        path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))

    return damage


def cut(name, end):
    """Without its last bytes, or its second half."""

    def damage(root):
        path = next(root.rglob(name))
        path.write_bytes(path.read_bytes()[: -end or path.stat().st_size // 2])

    return damage


def half(name):
    return cut(name, 0)


def flickr(root):
    make.flickr_captions(root)
    make.flickr_lists(root, data.Flickr8k.lists)


def karpathy(root):
    make.karpathy(root, "flickr30k")


def nuswide(root):
    make.nuswide(root, TC21)


def annotated(root):
    """MIRFLICKR with one annotation outside of its zip."""
    make.mirflickr(root)
    (root / "mirflickr25k_annotations_v080.zip").unlink()
    (root / "annotations").mkdir()
    for column in range(24):
        (root / "annotations" / f"concept{column:02d}.txt").write_text("1\n2\n")


def fashion(root):
    make.fashion(root, 110)


def wikidata(root):
    make_dialects.wikidata(root, make_dialects.v5)


def other_sizes(root):
    label = np.eye(10)[np.arange(20) % 10]
    make_dialects.v5(root / "wikiData.mat", **{f"{k}_{p}": label for k in "ITL" for p in ("tr", "te")})


def two_forms(root):
    make_dialects.v5(root / "raw_features.mat", I_tr=np.eye(3))


def views(root):
    make_dialects.xmedianet_views(root / "views.mat")


def other_pairs(root):
    make_dialects.xmedianet_views(root / "views.mat")
    import scipy.io

    arrays = {k: v for k, v in scipy.io.loadmat(root / "views.mat").items() if not k.startswith("__")}
    arrays["test"][0, 0] = arrays["test"][0, 0][:-1]
    scipy.io.savemat(root / "views.mat", arrays)


CASES = [
    (data.MSCOCO, make.coco, {}, half("instances_val2017.json"), r"instances_val2017\.json is damaged"),
    (
        data.MSCOCO,
        make.coco,
        {},
        edited("instances_*", '"category_id": 2}', '"category_id": 91}'),
        "unknown category 91",
    ),
    (data.Flickr30k, karpathy, {}, half("dataset_*"), r"dataset_flickr30k\.json is damaged"),
    (data.Flickr30k, karpathy, {}, edited("dataset_*", '"val"', '"dev"'), "has the split 'dev'"),
    (data.Flickr30k, karpathy, {}, edited("dataset_*", '"sentences"', '"tokens"'), "damaged .*'sentences'"),
    (data.Flickr8k, flickr, {}, edited("captions.txt", ',"A man, number 0, runs 0 ."', ""), "1 lines have no caption"),
    (data.Flickr30k, make.scan, {}, half("dev_ims.npy"), r"dev_ims\.npy is damaged"),
    (data.Flickr30k, make.scan, {}, half("dev_caps.txt"), "five captions to a picture"),
    (data.NUSWide, nuswide, {}, edited("Labels_sky.txt", "0", "7"), "holds 7: multi-hot labels are 0 or 1"),
    (data.NUSWide, nuswide, {}, edited("Labels_sky.txt", "0", "x"), "not a table of whole numbers"),
    (data.NUSWide, nuswide, {}, half("Labels_sky.txt"), r"lists 30 photos, \[\d+, 30\] labels"),
    (data.NUSWide, nuswide, {"selection": "tc10"}, half("Imagelist.txt"), "30"),
    (data.NUSWide, make.nuswide_10k, {"selection": "10k"}, edited("test.txt", ":4", ":11"), "holds class 12 of 10"),
    (data.NUSWide, make.nuswide_10k, {"selection": "10k"}, edited("test.txt", ":4", ""), "is not `<id>:<class>`"),
    (data.NUSWide, make.nuswide_10k, {"selection": "10k"}, half("0007.json"), r"0007\.json is damaged"),
    (
        data.MIRFlickr25K,
        annotated,
        {},
        edited("concept05.txt", "2", "25001"),
        "names photo '25001', but the tags are of",
    ),
    (data.MIRFlickr25K, annotated, {}, edited("concept05.txt", "2", "-1"), "names photo '-1'"),
    (data.IAPRTC12, make.iapr, {}, half("*_test_annot.hvecs"), r"10 photos of 20 labels need 420"),
    (data.IAPRTC12, make.iapr, {}, edited("*_test_annot.hvecs", "\x14\0", "\x15\0"), "a row is not led by 20"),
    (data.IAPRTC12, make.iapr, {}, edited("*_test_annot.hvecs", "\x01\0", "\x02\0"), "holds 2: multi-hot"),
    (data.Fashion, fashion, {}, cut("styles.csv", 30), "line 333 has too few columns"),
    (data.Wikipedia, wikidata, {}, other_sizes, r"holds wikidata files with \{'train': 20, 'test': 20\} pairs"),
    (data.Wikipedia, wikidata, {}, two_forms, "'I_tr' is in several files"),
    (data.Wikipedia, wikidata, {}, half("wikiData.mat"), r"wikiData\.mat is damaged"),
    (data.XMediaNet, views, {}, other_pairs, "does not hold pairs"),
    (data.XMediaNet, views, {}, half("views.mat"), r"views\.mat is damaged"),
]


@pytest.mark.parametrize(("module", "write", "options", "damage", "message"), CASES)
def test_what_is_wrong_with_a_release_is_named(tmp_path, module, write, options, damage, message):
    write(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError, match=message):
        _ = module(root=str(tmp_path), **options).release


@pytest.mark.parametrize("module", [data.Flickr8k, data.Fashion, data.IAPRTC12, data.XMediaNet, data.PascalSentence])
def test_the_files_of_another_dataset_are_refused_with_what_is_expected(tmp_path, module):
    make.nuswide(tmp_path, TC21)
    with pytest.raises(UserError, match=rf"{module.name}: its files are not in .*Expected there: .*From: "):
        _ = module(root=str(tmp_path)).release


def test_the_fixtures_themselves_are_read(tmp_path):
    """Else a damage could be refused for another reason."""
    for number, (module, write, options) in enumerate({case[:2]: case[:3] for case in CASES}.values()):
        (tmp_path / str(number)).mkdir()
        write(tmp_path / str(number))
        assert module(root=str(tmp_path / str(number)), **options).release.label.any(1).all()


def test_json_that_is_no_dataset_is_refused(tmp_path):
    make.coco(tmp_path)
    (tmp_path / "annotations" / "captions_val2017.json").write_text(json.dumps([1, 2]))
    with pytest.raises(UserError, match=r"captions_val2017\.json is damaged"):
        _ = data.MSCOCO(root=str(tmp_path)).release


def test_a_pickle_of_something_else_is_refused(tmp_path):
    (tmp_path / "clip_train.pkl").write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(UserError, match="holds a list, not a dictionary of arrays"):
        _ = data.NUSWide(root=str(tmp_path), selection="10k").release


def test_links_that_lead_nowhere_and_arrays_of_one_name(tmp_path):
    path = tmp_path / "links.h5"
    h5(tmp_path)
    (tmp_path / "all.h5").rename(path)
    with h5py.File(path, "a") as file:
        file["soft"], file["outside"] = h5py.SoftLink("/nowhere"), h5py.ExternalLink("no.h5", "/x")
        file[b"\xff"] = [1.0]  # a name that a damaged byte leaves
    assert {variable.key for variable in listed(path)} == OWN.keys()
    with zipfile.ZipFile(tmp_path / "twice.npz", "w") as archive:
        archive.writestr("image.npy", b"")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("image.npy", b"")
    with pytest.raises(UserError, match="holds two arrays of one name"):
        listed(tmp_path / "twice.npz")


def test_a_class_number_that_counts_to_a_billion_takes_no_memory():
    with pytest.raises(UserError, match="labels holds the class 1000000000: 10,000 classes are the most"):
        multi_hot(np.array([0, 1, 10**9]), "labels")


def test_a_damaged_length_of_text_takes_no_memory(tmp_path):
    """HDF5 would clear 4 GiB before it looks for the text."""
    path = tmp_path / "texts.h5"
    with h5py.File(path, "w") as file:
        file["text"] = np.array(["a dog", "caf\u00e9", ""] * 300, object)
        place = file["text"].id.get_offset()
    (read,) = (variable.read() for variable in listed(path))
    assert read.tolist()[:3] == ["a dog", "caf\u00e9", ""]
    content, before = bytearray(path.read_bytes()), resource.getrlimit(resource.RLIMIT_AS)
    content[place : place + 4] = b"\xff" * 4
    path.write_bytes(content)
    started = time.process_time()
    with pytest.raises(UserError, match="is damaged or not what its name says"):
        listed(path)[0].read()
    assert time.process_time() - started < 0.5
    assert resource.getrlimit(resource.RLIMIT_AS) == before
