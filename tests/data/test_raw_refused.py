"""Trained trunks: pictures that cannot be read, and options that do not fit."""

import json
import zipfile
from types import SimpleNamespace

import pytest
import torch

from tests.data.test_raw import (  # noqa: F401 - two are fixtures
    CLIP,
    COLOURS,
    Colours,
    clip,
    colours,
    jpeg,
    pretrain,
    pytestmark,
    root,
    write,
)
from tests.methods.training import train
from xmodal.checkpoint import PARTS
from xmodal.data import trunk_inputs
from xmodal.data.raw import TrunkTraining
from xmodal.encoders import OpenClipImage
from xmodal.errors import UserError
from xmodal.methods import CCA


def test_corrupt_pictures_are_named_counted_and_refused_above_the_threshold(clip, tmp_path, capsys):  # noqa: F811
    write(tmp_path / "data")
    for name, content in (("000.jpg", b"no picture"), ("040.jpg", jpeg(40, COLOURS["red"])[:300])):
        (tmp_path / "data" / "loose").mkdir(exist_ok=True)
        (tmp_path / "data" / "loose" / name).write_bytes(content)
    source, target = tmp_path / "data" / "pictures.zip", tmp_path / "data" / "rest.zip"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for entry in old.namelist():
            if entry not in ("pictures/000.jpg", "pictures/040.jpg", "pictures/007.jpg"):
                new.writestr(entry, old.read(entry))
    source.unlink()
    with pytest.raises(UserError, match=r"3 pictures are missing or corrupt, 2 allowed: .*--data.max_corrupt=3"):
        colours(tmp_path / "data", clip, max_corrupt=2).num_train  # noqa: B018
    data = colours(tmp_path / "data", clip, max_corrupt=3)
    assert data.num_train == 22
    assert data.describe()["corrupt_images"] == ["000.jpg", "007.jpg", "040.jpg"]
    assert "left out: 007.jpg (no such file)" in capsys.readouterr().err
    train(pretrain(data), data, tmp_path)


def test_a_picture_that_is_gone_since_the_check_stops_the_run(clip, tmp_path):  # noqa: F811
    write(tmp_path / "data")
    data = colours(tmp_path / "data", clip, trunk={"workers": 1, "cache": False})
    assert data.num_train == 24
    write(tmp_path / "other", size=3)
    (tmp_path / "other" / "pictures.zip").replace(tmp_path / "data" / "pictures.zip")
    with pytest.raises(UserError, match=r"1 pictures are missing or corrupt, 0 allowed: \d+\.jpg"):
        list(data.train_dataloader())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"crop": 0.0}, r"crop is 0.0: give a share above 0"),
        ({"flip": 1.5}, r"flip is 1.5: give a probability"),
        ({"workers": -1}, r"workers is -1: give 0"),
        ({"sides": "none", "workers": None, "frozen_layers": 2}, r"frozen_layers acts on trained trunks"),
        ({"sides": "text", "workers": 2}, r"act on pictures"),
        ({"sides": "text", "workers": None, "cache": False}, r"act on pictures"),
        ({"sides": "none", "workers": None, "compile": True}, r"compile acts on trained trunks"),
        ({"compile": "reduce-overhead"}, r"give true or false; steps are recorded as CUDA graphs"),
        ({"resident": True}, r"resident is gone: decoded pictures are kept on disk"),
        ({"frozen_layers": 3}, r"frozen_layers is 3: ClipImage has 3 blocks"),
    ],
)
def test_options_that_do_not_fit_are_refused(root, clip, options, message):  # noqa: F811
    with pytest.raises(UserError, match=message):
        colours(root, clip, trunk=options).trunks()


def test_what_cannot_be_trained_is_refused(root, clip, tmp_path):  # noqa: F811
    data = colours(root, clip)
    with pytest.raises(UserError, match="cca reads frozen features only"):
        train(CCA(bits=4, image_dim=16, text_dim=16), data, tmp_path)
    with pytest.raises(UserError, match="MiniLM cannot be trained"):
        Colours(root=str(root), text_scaling="none", trunk=TrunkTraining("text")).trunks()
    with pytest.raises(UserError, match="image_scaling is 'standard'"):
        Colours(root=str(root), trunk=TrunkTraining("image"))
    with pytest.raises(UserError, match="compile is for batches of one size"):
        Colours(root=str(root), image_scaling="none", per_label=2, trunk=TrunkTraining("image", compile=True))
    loops = {f"{each}_loop": {} for each in ("fit", "validate", "test", "predict")}
    empty = {name: kind() for name, kind in PARTS.items()} | {"loops": loops, "pytorch-lightning_version": "2.6.6"}
    torch.save(empty, tmp_path / "empty.ckpt")
    with pytest.raises(UserError, match="holds no image trunk"):
        OpenClipImage(clip, str(tmp_path / "empty.ckpt")).trunk()


def test_a_trained_trunk_without_tokens_is_refused_where_they_are_asked_for(root, clip, tmp_path):  # noqa: F811
    tower = CLIP["text_cfg"] | {"pool_type": "last", "no_causal_mask": True, "proj_bias": True}
    (tmp_path / "tiny-last-to-train.json").write_text(json.dumps(CLIP | {"text_cfg": tower}))
    data = colours(root, str(tmp_path / "tiny-last-to-train.json"), tokens=True)
    with pytest.raises(UserError, match="the text features of colours have no tokens: choose another text encoder"):
        data.role("train")


def test_inputs_of_a_trained_trunk_are_its_pictures(clip, tmp_path):  # noqa: F811
    write(tmp_path / "data")
    was = colours(tmp_path / "data", clip).describe()
    kept = (tmp_path / "data" / "pictures.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "data" / "pictures.zip") as old:
        pictures = {name: old.read(name) for name in old.namelist()} | {"pictures/001.jpg": jpeg(0, (9, 9, 9))}
    with zipfile.ZipFile(tmp_path / "data" / "pictures.zip", "w") as new:
        for name, content in pictures.items():
            new.writestr(name, content)
    now = colours(tmp_path / "data", clip).describe()
    assert {key for key in was if was[key] != now[key]} == {"inputs_hash"}
    (tmp_path / "data" / "pictures.zip").write_bytes(kept)
    assert colours(tmp_path / "data", clip).describe() == was


def test_pictures_on_a_gpu_are_of_the_form_that_is_asked_for(root, clip, monkeypatch):  # noqa: F811
    """Without a GPU: after a training with crops, the pictures as the trunk reads them were those to be cropped."""
    data = colours(root, clip, trunk={"crop": 0.5})
    monkeypatch.setattr(trunk_inputs.TrunkInputs, "_device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**12, 10**12))
    monkeypatch.setattr(trunk_inputs, "Resident", lambda read, form, rows, device: SimpleNamespace(read=form))
    rows = data._pairs.of("image", data.positions("train"))
    assert [data._source("train", rows, form)[0] for form in ("wide", "whole", "wide")] == ["wide", "whole", "wide"]
