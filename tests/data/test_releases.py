"""The original releases, as downloaded."""

import numpy as np
import pytest
import torch

from tests.data import make
from xmodal import data
from xmodal.data.sets.nuswide import TC21
from xmodal.errors import UserError


def test_mirflickr_in_both_selections(tmp_path):
    make.mirflickr(tmp_path)
    classic = data.MIRFlickr25K(root=str(tmp_path)).release
    assert classic.notes == {"left_out_without_tag": 1, "left_out_without_label": 1}
    assert (len(classic.label), classic.text.shape) == (28, (30, 3))
    kept = data.MIRFlickr25K(root=str(tmp_path), selection="labels", text="words")
    assert (len(kept.release.label), kept.caption(0)) == (29, "sky nobodyelse")
    words = data.MIRFlickr25K(root=str(tmp_path), text="words")
    assert (len(words.release.label), words.caption(3)) == (28, "sky nobodyelse")  # im4 is left out
    assert np.array_equal(classic.label[0], make.multi_hot(24)[0])
    assert classic.image.names[classic.image_rows[6]] == "im9.jpg"  # im4 and im7 are left out


def test_nuswide_keeps_photos_with_one_of_its_concepts(tmp_path):
    make.nuswide(tmp_path, TC21)
    module = data.NUSWide(root=str(tmp_path), text="words")
    assert module.release.notes == {"left_out_without_label": 1}
    assert (module.caption(2), module.picture(2).size) == ("sky tag3", (20, 16))
    assert np.array_equal(data.NUSWide(root=str(tmp_path)).release.text[2], make.tags(40)[3])
    (tmp_path / "NUS_WID_Tags" / "All_Tags.txt").write_text("1 sky\n")
    with pytest.raises(UserError, match=r"lists 30 photos, .* labels and 1 tag lines"):
        _ = data.NUSWide(root=str(tmp_path), text="words").release
    (tmp_path / "NUS_WID_Tags" / "AllTags1k.txt").unlink()
    with pytest.raises(UserError, match=r"lacks AllTags1k\.txt of NUS_WID_Tags\.zip, which data\.text=vector"):
        _ = data.NUSWide(root=str(tmp_path)).release


def test_nuswide_10k_as_lists_and_texts(tmp_path):
    make.nuswide_10k(tmp_path)
    module = data.NUSWide(root=str(tmp_path), selection="10k", protocol="official")
    assert {role: len(rows) for role, rows in module.release.roles.items()} == {"train": 20, "val": 4, "test": 6}
    assert (module.caption(7), module.release.label[7].argmax(), module.picture(7).size) == ("sky tag7", 7, (20, 16))


def test_iapr_with_guillaumins_lists(tmp_path):
    make.iapr(tmp_path)
    module = data.IAPRTC12(root=str(tmp_path), protocol="official", val=5)
    assert module.release.notes == {"left_out_without_text": 1}
    assert {role: len(rows) for role, rows in module.release.roles.items()} == {"train": 20, "test": 9}
    assert (module.caption(21), module.picture(21).size) == ("a caf\xe9 with 21 chairs;", (20, 16))
    assert np.array_equal(module.release.label, make.multi_hot(20)[:29])


def test_coco_for_hashing_and_for_captions(tmp_path):
    make.coco(tmp_path)
    module = data.MSCOCO(root=str(tmp_path))
    assert (module.release.label.shape, module.release.notes["left_out_without_label"]) == ((27, 80), 3)
    assert module.caption(0) == "A photo 1 of things, caption 0."
    assert module.release.label_names[0] == "thing1"
    every = data.MSCOCO(root=str(tmp_path), captions="all", relevance="group").release
    assert (len(every.label), len(every.image), every.group.tolist()[4:6]) == (150, 30, [0, 1])


def test_a_caption_of_coco_in_two_files_is_one(tmp_path):
    make.coco(tmp_path)
    kept = {f"annotations/{path.name}": path.read_bytes() for path in (tmp_path / "annotations").iterdir()}
    make.zipped(tmp_path / "annotations_trainval2017.zip", kept)
    release = data.MSCOCO(root=str(tmp_path), captions="all").release
    assert (len(release.label), release.text[4], release.text[5]) == (
        150, "A photo 0 of things, caption 4.", "A photo 1 of things, caption 0.",
    )  # fmt: skip


def test_coco_with_all_captions_draws_whole_pictures(tmp_path, colour):
    make.coco(tmp_path)
    options = {"captions": "all", "query": 40, "train": 80, "val": 20, "image_encoder": colour}
    module = data.MSCOCO(root=str(tmp_path), **options)
    assert module.describe()["split_sizes"] == {
        "train": 60, "val_query": 20, "val_database": 60, "query": 40, "database": 110,
    }  # fmt: skip
    roles = {role: set((module.role(role)["group"]).tolist()) for role in ("train", "val_query", "query")}
    assert sum(map(len, roles.values())) == len(set.union(*roles.values())) == 12 + 4 + 8
    assert module.describe()["split_same_content"] == 0
    with pytest.raises(UserError, match="no query's picture is in the database of this protocol"):
        data.MSCOCO(root=str(tmp_path), **options, relevance="group").describe()


def test_coco_by_karpathys_lists_is_judged_by_the_picture(tmp_path):
    make.coco(tmp_path)
    options = {"root": str(tmp_path), "captions": "all"}
    found = {
        (protocol, rule): data.MSCOCO(**options, protocol=protocol, relevance=rule).relevance
        for protocol in (None, "karpathy")
        for rule in (None, "label")
    }
    assert found.pop(("karpathy", None)) == "group"
    assert set(found.values()) == {"label"}


def test_coco_of_which_a_part_is_missing_is_refused(tmp_path):
    make.coco(tmp_path)
    make.karpathy(tmp_path, "coco")  # its photos have other names, as those of 2014 beside annotations of 2017
    with pytest.raises(UserError, match=r"lists 30 photos without captions, such as 1000_ab\.jpg"):
        _ = data.MSCOCO(root=str(tmp_path), captions="all").release
    (tmp_path / "annotations" / "captions_train2017.json").write_text(
        '{"images": [{"id": 7, "file_name": "7.jpg"}], "annotations": [{"id": 1, "image_id": 7, "caption": "A dog."}]}'
    )
    with pytest.raises(UserError, match="1 photos are in files of one kind only"):
        _ = data.MSCOCO(root=str(tmp_path)).release


def test_a_picture_under_two_names_is_drawn_as_one_and_told_in_official_lists(tmp_path, colour, capsys):
    make.flickr_captions(tmp_path)
    make.flickr_lists(tmp_path, LISTS)
    names = make.flickr_names()
    pictures = {f"Images/{name}": make.jpeg(0 if k in (3, 22) else k) for k, name in enumerate(names)}
    pictures["Images/" + names[0]] = make.jpeg(99)
    make.zipped(tmp_path / "images.zip", pictures)
    module = data.Flickr8k(root=str(tmp_path), image_encoder=colour)
    assert module.describe()["split_same_content"] == 5  # captions of the test picture that is trained on
    assert "5 queries show a picture that is also trained on" in capsys.readouterr().err


LISTS = ("Flickr_8k.trainImages.txt", "Flickr_8k.devImages.txt", "Flickr_8k.testImages.txt")


@pytest.mark.parametrize("layout", ["kaggle", "token"])
def test_flickr8k_with_its_official_lists(tmp_path, layout, colour):
    make.flickr_captions(tmp_path, layout)
    make.flickr_lists(tmp_path, LISTS)
    module = data.Flickr8k(root=str(tmp_path), image_encoder=colour)
    split = module.split()
    assert split.sizes() == {"train": 75, "val_query": 25, "val_database": 25, "query": 40, "database": 40}
    assert module.release.notes["images_in_no_list"] == 2
    assert module.caption(5 * 3 + 2) == "A dog, number 3, runs 2 ."
    assert set(split.query // 5) == set(range(20, 28))


def test_lemmas_of_the_release_are_no_captions(tmp_path):
    make.flickr_captions(tmp_path, "token")
    (tmp_path / "Flickr8k.lemma.token.txt").write_text("1000_ab.jpg#0\ta man run .\n")
    assert data.Flickr8k(root=str(tmp_path)).caption(0) == "A man, number 0, runs 0 ."


def test_captions_of_another_version_and_missing_lists_are_refused(tmp_path):
    make.flickr_captions(tmp_path)
    make.flickr_lists(tmp_path, LISTS)
    own = (tmp_path / "captions.txt").read_bytes()
    make.zipped(tmp_path / "archive.zip", {"captions.txt": own})  # what was unpacked lies beside it
    assert len(data.Flickr8k(root=str(tmp_path)).release.label) == 150
    (tmp_path / "Flickr8k_captions.txt").write_bytes(own.lower())
    with pytest.raises(UserError, match=r"Flickr8k_captions\.txt in .* and captions\.txt in .* differ: keep the one"):
        _ = data.Flickr8k(root=str(tmp_path)).release
    (tmp_path / "Flickr8k_captions.txt").unlink()
    (tmp_path / LISTS[1]).unlink()
    with pytest.raises(UserError, match=r"lacks Flickr_8k\.devImages\.txt, beside which the other lists lie"):
        _ = data.Flickr8k(root=str(tmp_path)).release


def test_flickr30k_from_any_of_its_files(tmp_path):
    (tmp_path / "results").mkdir()
    make.flickr_captions(tmp_path / "results", "results")
    make.flickr_lists(tmp_path / "results", ("train.txt", "val.txt", "test.txt"))
    release = data.Flickr30k(root=str(tmp_path / "results")).release
    assert (len(release.label), release.text[7]) == (150, "A dog, number 1, runs 2 .")
    (tmp_path / "karpathy").mkdir()
    make.karpathy(tmp_path / "karpathy", "flickr30k")
    assert data.Flickr30k(root=str(tmp_path / "karpathy")).release.roles["train"].tolist() == list(range(75))


def test_regions_of_scan_are_tokens(tmp_path):
    make.scan(tmp_path)
    module = data.Flickr30k(root=str(tmp_path), tokens=True)
    release = module.release
    assert release.image["tokens"].shape == (22, 6, 20)
    assert np.allclose(release.image["pooled"][21], release.image["tokens"][21].mean(0), atol=1e-6)
    assert len(module.split().query) == 30


def test_captions_of_a_picture_share_its_features_and_its_group(tmp_path, colour):
    make.flickr_captions(tmp_path)
    make.flickr_lists(tmp_path, LISTS)
    module = data.Flickr8k(root=str(tmp_path), image_encoder=colour)
    batch = module.role("query")
    assert torch.equal(batch["image"]["pooled"][0], batch["image"]["pooled"][4])
    assert not torch.equal(batch["image"]["pooled"][4], batch["image"]["pooled"][5])
    assert batch["group"].tolist() == [row // 5 for row in batch["index"].tolist()]
    assert torch.equal(batch["hierarchy"][:, 0], batch["group"])
    assert "hierarchy" not in data.Flickr8k(root=str(tmp_path), image_encoder=colour, relevance="label").role("query")


def test_a_list_of_unknown_photos_is_refused(tmp_path):
    make.flickr_captions(tmp_path)
    make.flickr_lists(tmp_path, LISTS)
    (tmp_path / LISTS[2]).write_text("nowhere.jpg\n")
    with pytest.raises(UserError, match=r"testImages\.txt lists 1 photos without captions, such as nowhere\.jpg"):
        _ = data.Flickr8k(root=str(tmp_path)).release


def test_pascal_sentences_belong_to_their_photos(tmp_path):
    make.pascal(tmp_path)
    release = data.PascalSentence(root=str(tmp_path)).release
    assert (release.label.shape, release.label_names[3]) == ((40, 20), "class03")
    assert release.text[0].startswith("sentence 0. sentence 1.")


def test_fashion_is_a_strict_tree_and_every_photo_is_encoded(tmp_path, colour):
    make.fashion(tmp_path)
    module = data.Fashion(root=str(tmp_path), query=40, train=200, val=30, image_encoder=colour)
    release = module.release
    assert len(module.pairs().image["pooled"]) == 332
    assert (len(release.label), (release.hierarchy.max(0) + 1).tolist()) == (330, [2, 2, 3])
    assert release.notes["left_out_off_tree_or_rare"] == 2
    assert module.caption(3) == "Shirts number 3, with a comma"
    assert module.role("query")["hierarchy"].shape == (40, 3)
    assert (release.label.sum(1) == 3).all()
    every = data.Fashion(root=str(tmp_path), labels="attributes", relevance="label").release
    assert len(every.label) == 332
    assert {name.partition(":")[0] for name in every.label_names} == {"subCategory", "articleType", "baseColour"}
    assert every.notes["left_out_labels"] == ["subCategory:Topwear", "usage:Casual"]  # of most products


def test_another_table_is_refused(tmp_path):
    make.fashion(tmp_path)
    (tmp_path / "styles.csv").write_text("id,title\n1,shirt\n")
    with pytest.raises(UserError, match="not those of the release: id, masterCategory"):
        _ = data.Fashion(root=str(tmp_path)).release


def test_class_batches_are_of_the_finest_layer(tmp_path, colour):
    make.fashion(tmp_path)
    options = {"root": str(tmp_path), "query": 40, "train": 200, "val": 30, "image_encoder": colour, "batch_size": 12}
    module = data.Fashion(per_label=4, **options)
    for batch in module.train_dataloader():
        assert sorted(batch["hierarchy"][:, 2].bincount().tolist())[-3:] == [4, 4, 4]
