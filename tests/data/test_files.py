import multiprocessing
import os
import time
import unicodedata
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.data import make
from xmodal import data
from xmodal.data.readers.files import Files, Photos
from xmodal.errors import UserError


def test_zips_and_folders_are_one_place(tmp_path):
    make.zipped(tmp_path / "a.zip", {"photos/1.jpg": make.jpeg(1)})
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "2.jpg").write_bytes(make.jpeg(2))
    photos = Photos(Files(tmp_path), ["1.jpg", "/elsewhere/2.jpg"])
    assert [photos[k].size for k in range(2)] == [(20, 16)] * 2


def test_a_name_is_found_however_its_accents_are_written(tmp_path):
    """macOS writes e and an accent where a table has one letter: the picture was said to be missing."""
    make.zipped(tmp_path / "a.zip", {unicodedata.normalize("NFD", "th\u00e9/caf\u00e9.jpg"): make.jpeg(1)})
    assert Files(tmp_path).find("th\u00e9/caf\u00e9.jpg")
    make.zipped(tmp_path / "b.zip", {"the/caf\u00e9.jpg": make.jpeg(2)})
    assert Files(tmp_path).find("th\u00e9/caf\u00e9.jpg").path.name == "a.zip"


def test_folders_in_front_decide_between_files_of_one_name(tmp_path):
    make.zipped(tmp_path / "a.zip", {"train/1.jpg": make.jpeg(1), "test/1.jpg": make.jpeg(2)})
    files = Files(tmp_path)
    assert files.find("data/test/1.jpg").name == "test/1.jpg"
    with pytest.raises(UserError, match=r"'1\.jpg' may be train/1\.jpg in .* or test/1\.jpg"):
        files.find("1.jpg")


def test_a_picture_that_is_gone_is_none_of_another_folder(tmp_path):
    whole = {
        f"photos/{name}": make.jpeg(k) for k, name in enumerate(("cat/2.jpg", "dog/1.jpg", "dog/2.jpg", "cow/1.jpg"))
    }
    make.zipped(tmp_path / "a.zip", whole)
    names = ["cat/1.jpg", "cat/2.jpg", "dog/2.jpg"]
    for front in ("", "photos/", "/home/author/"):  # dog/1.jpg is not in the table
        found = Files(tmp_path).find_all([front + name for name in names])
        assert [entry and entry.name for entry in found] == [None, "photos/cat/2.jpg", "photos/dog/2.jpg"]
    found = Files(tmp_path).find_all([*names[1:], "owl/1.jpg", "/data/dog/1.jpg"])  # no folder owl is here
    assert [entry and entry.name for entry in found[2:]] == [None, "photos/dog/1.jpg"]


def test_pictures_that_were_put_into_one_folder_are_found_unless_two_had_one_name(tmp_path):
    make.zipped(tmp_path / "a.zip", {f"photos/{k}.jpg": make.jpeg(k) for k in range(4)})
    assert all(Files(tmp_path).find_all(["cat/0.jpg", "cat/1.jpg", "dog/2.jpg", "dog/2.jpg", "3.jpg"]))
    for first in ("cat/0.jpg", "0.jpg", "dog/0.JPG"):
        with pytest.raises(UserError, match=rf"'dog/0\.jpg' and '{first}' are both photos/0\.jpg in .*: one is not"):
            Files(tmp_path).find_all([first, "dog/0.jpg"])


def test_names_from_a_root_are_apart_from_those_below_the_folder(tmp_path):
    make.zipped(tmp_path / "a.zip", {name: make.jpeg(1) for name in ("cat/1.jpg", "dog/2.jpg")})
    for root in ("/", "\\", "C:\\", "https://host/"):
        found = Files(tmp_path).find_all([f"{root}cat/1.jpg", f"{root}cat/2.jpg"])
        assert [entry and entry.name for entry in found] == ["cat/1.jpg", None]  # dog/2.jpg is another picture
    for root in ("/home/me/", "C:\\Users\\me\\", "https://host/", "~/", "../photos/"):
        assert all(Files(tmp_path).find_all(["cat/1.jpg", f"{root}dog/2.jpg"]))


def test_files_of_one_name_in_thousands_of_folders_are_found_at_once(tmp_path):
    names = [f"{number}/1.jpg" for number in range(4000)]
    make.zipped(tmp_path / "a.zip", dict.fromkeys(names, b""))
    began = time.monotonic()
    assert [entry.name for entry in Files(tmp_path).find_all([f"/home/me/{name}" for name in names])] == names
    assert time.monotonic() - began < 10  # a minute, where each name goes through all files


def test_a_name_in_full_is_the_file_of_that_name(tmp_path):
    make.zipped(tmp_path / "a.zip", {"1.jpg": make.jpeg(1), "sub/1.jpg": make.jpeg(2), "sub/sub/1.jpg": make.jpeg(3)})
    files = Files(tmp_path)
    assert [files.find(name).name for name in ("1.jpg", "sub/1.jpg", "sub/sub/1.jpg")] == [
        "1.jpg", "sub/1.jpg", "sub/sub/1.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["../outside.jpg", "/etc/outside.jpg", "a/../../outside.jpg"])
def test_a_name_that_leads_out_is_refused(tmp_path, name):
    make.zipped(tmp_path / "a.zip", {name: make.jpeg(1)})
    with pytest.raises(UserError, match="leads out of it"):
        Files(tmp_path)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    make.zipped(tmp_path / "a.zip", {"1.jpg": bytes(2**23)})
    files = Files(tmp_path)
    with pytest.raises(UserError, match=r"would unpack from .* to 8388608 bytes"):
        files.read(files.find("1.jpg"))


def test_a_damaged_zip_is_named(tmp_path):
    make.zipped(tmp_path / "a.zip", {"1.jpg": make.jpeg(1)})
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"a\.zip is damaged"):
        Files(tmp_path)


def test_a_member_of_a_zip_without_a_name_is_none(tmp_path):
    make.zipped(tmp_path / "a.zip", {"1.jpg": make.jpeg(1), "q.jpg": make.jpeg(2)})
    whole = (tmp_path / "a.zip").read_bytes()
    (tmp_path / "a.zip").write_bytes(whole.replace(b"q.jpg", b"\0.jpg"))
    assert [entry.name for entry in Files(tmp_path).entries()] == ["1.jpg"]


def _sizes(photos, rows, results):
    results.put([int(np.asarray(photos[row]).sum()) for row in rows])


def test_threads_take_turns_in_a_zip(tmp_path, monkeypatch):
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for number in range(8):
            archive.writestr(f"{number}.txt", str(number) * 100)
    inside, most, plain = [], [], zipfile.ZipFile.read

    def read(self, member):
        inside.append(member)
        most.append(len(inside))
        time.sleep(0.002)  # another thread's turn, if there is nothing to wait for
        content = plain(self, member)
        inside.remove(member)
        return content

    monkeypatch.setattr(zipfile.ZipFile, "read", read)
    files = Files(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda entry: (entry.name, files.read(entry)), files.entries()))
    assert found == [(f"{number}.txt", f"{number}".encode() * 100) for number in range(8)]
    assert max(most) == 1


def test_forked_processes_read_through_handles_of_their_own(tmp_path):
    make.zipped(tmp_path / "a.zip", {f"{k}.jpg": make.jpeg(k) for k in range(40)})
    photos = Photos(Files(tmp_path), [f"{k}.jpg" for k in range(40)])
    expected = [int(np.asarray(photos[row]).sum()) for row in range(40)]  # the parent's handle is open
    context = multiprocessing.get_context("fork")
    results = [context.SimpleQueue() for _ in range(2)]
    workers = [context.Process(target=_sizes, args=(photos, range(40), queue)) for queue in results]
    for worker in workers:
        worker.start()
    assert [queue.get() for queue in results] == [expected] * 2
    for worker in workers:
        worker.join()


def spoil(root, member):
    """Give one picture of the zip other bytes, as a bad download leaves them."""
    with zipfile.ZipFile(root / "images.zip") as file:
        contents = {name: file.read(name) for name in file.namelist() if not name.endswith("/")}
    contents[member] = b"no picture"
    make.zipped(root / "images.zip", contents)


@pytest.fixture
def spoilt(tmp_path):
    make.fashion(tmp_path)
    spoil(tmp_path, "images/7.jpg")
    return tmp_path


def test_a_corrupt_picture_is_named_and_refused(spoilt, colour):
    with pytest.raises(
        UserError, match=r"1 pictures are missing or corrupt, 0 allowed: 7\.jpg .*--data\.max_corrupt=1"
    ):
        data.Fashion(root=str(spoilt), image_encoder=colour, query=40, train=200, val=30).pairs()


def test_allowed_corrupt_pictures_are_counted_named_and_in_no_role(spoilt, colour, capsys):
    options = {"root": str(spoilt), "image_encoder": colour, "query": 40, "train": 290, "val": 30}
    module = data.Fashion(max_corrupt=2, **options)
    said = module.describe()
    assert said["corrupt_images"] == ["7.jpg"]
    assert "left out: 7.jpg" in capsys.readouterr().err
    assert sum(said["split_sizes"][role] for role in ("train", "val_query", "query")) == 329
    with pytest.raises(UserError, match=r"1 pictures are missing or corrupt, 0 allowed: 7\.jpg"):  # from the cache too
        data.Fashion(**options).describe()


def test_a_missing_picture_counts_as_corrupt(tmp_path, colour):
    make.fashion(tmp_path)
    table = (tmp_path / "styles.csv").read_text()
    (tmp_path / "styles.csv").write_text(table + "9999,,Apparel,Topwear,Tops,Red,,,Casual,No photo\n")
    with pytest.raises(UserError, match=r"9999\.jpg \(no such file\)"):
        data.Fashion(root=str(tmp_path), image_encoder=colour, query=40, train=200, val=30).pairs()


def test_a_read_only_folder_keeps_its_features_elsewhere(spoilt, colour, tmp_path_factory, monkeypatch, capsys):
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("XMODAL_HOME", str(home))
    spoilt.chmod(0o555)
    try:
        module = data.Fashion(root=str(spoilt), image_encoder=colour, max_corrupt=1, query=40, train=200, val=30)
        module.pairs()
    finally:
        spoilt.chmod(0o755)
    assert list((home / "data" / "fashion" / "features").glob("mean-*"))
    assert f"are kept in {home / 'data' / 'fashion' / 'features'}" in capsys.readouterr().err
    assert not os.path.lexists(spoilt / "features")


def test_a_wrong_protocol_stops_before_anything_is_encoded(tmp_path, colour):
    make.fashion(tmp_path)
    with pytest.raises(UserError, match="takes 2000 queries"):
        data.Fashion(root=str(tmp_path), image_encoder=colour).prepare_data()
    assert not os.path.lexists(tmp_path / "features")
