"""Trunks that are trained inside the model, on pictures from a zip and on token ids."""

import inspect
import json
import zipfile
from io import BytesIO
from itertools import product
from typing import ClassVar

import numpy as np
import pytest
import torch
from lightning import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from tests.methods.training import HARMLESS, Died, Stop, make_trainer, train
from xmodal.callbacks import SeedEpoch
from xmodal.cli import LINKED
from xmodal.data.raw import TrunkTraining
from xmodal.data.recipes import Official
from xmodal.data.sets.captions import CaptionBenchmark
from xmodal.encoders import OpenClipImage, OpenClipText
from xmodal.methods import DCMHT, DIMCH, DNPH, DSPH, MITH, Pretrain, TextGuidedCLIP, TwDH, UMoED

CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "layers": 3, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 3},
}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (30, 50, 220), "grey": (120, 120, 120)}
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{each}") for each in (*HARMLESS, ".* codes have collapsed")
]  # 3 steps


class Colours(CaptionBenchmark):
    """48 pictures of a colour with a caption each."""

    name = "colours"
    expected, origin = "captions.txt and the pictures", "this test"
    recipes: ClassVar = {"official": Official("24, 8 and 16 pictures")}
    lists = ("train.txt", "val.txt", "test.txt")


def jpeg(seed, colour):
    pixels = np.clip(np.random.default_rng(seed).normal(colour, 20, (24, 32, 3)), 0, 255).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG")
    return buffer.getvalue()


def write(root, size=48):
    root.mkdir(exist_ok=True)
    names = [f"{row:03}.jpg" for row in range(size)]
    lines = ["image,caption"]
    with zipfile.ZipFile(root / "pictures.zip", "w") as file:
        for row, name in enumerate(names):
            word = list(COLOURS)[row % 4]
            file.writestr(f"pictures/{name}", jpeg(row, COLOURS[word]))
            lines.append(f"{name},a picture number {row} that is {word}")
    (root / "captions.txt").write_text("\n".join(lines))
    for file, part in zip(("train.txt", "val.txt", "test.txt"), np.split(np.array(names), [24, 32]), strict=True):
        (root / file).write_text("\n".join(part))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("colours")
    write(folder)
    return folder


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "tiny-clip-to-train.json"
    path.write_text(json.dumps(CLIP))
    return str(path)


def colours(root, clip, weights="random", **options):
    training = {"sides": "both", "workers": 0} | options.pop("trunk", {})
    return Colours(
        root=str(root),
        image_encoder=OpenClipImage(clip, weights),
        text_encoder=OpenClipText(clip, weights, max_tokens=12),
        **({"batch_size": 8, "relevance": "label"} | options),
        image_scaling="none",
        text_scaling="none",
        trunk=TrunkTraining(**training),
    )


def guided(data, **changes):
    return TextGuidedCLIP(
        **{"bits": 8, "dim": 16, "width": 16, "layers": 1, "dropout": 0.0} | changes,
        image_dim=data.image_dim,
        text_dim=data.text_dim,
        image_token_dim=data.image_token_dim,
        num_labels=data.num_labels,
    )


def pretrain(data, **changes):
    return Pretrain(dim=16, **changes, image_dim=data.image_dim, text_dim=data.text_dim)


def hashing(cls):
    """Builds a hashing method with its linked arguments from the data."""

    def build(data, **changes):
        small = {"bits": 8, "dim": 16, "zeta": 0.1} | {name: getattr(data, name) for name in LINKED}
        parameters = inspect.signature(cls).parameters
        return cls(**{name: value for name, value in small.items() if name in parameters}, **changes)

    return build


def outputs(model, data, role="query"):
    with torch.no_grad():
        parts = [model.eval().predict_step(model.with_features(batch), 0) for batch in data.batches(role)]
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}


def test_a_trunk_gives_what_the_frozen_one_gives(root, clip, tmp_path):
    """Features of the trained path before the first step are those of the cache."""
    trained = colours(root, clip, tokens=True)
    model = guided(trained)
    make_trainer(tmp_path).test(model, datamodule=trained, verbose=False)
    got = model.with_features(next(iter(trained.batches("train"))))
    want = next(iter(colours(root, clip, trunk={"sides": "none", "workers": None}, tokens=True).batches("train")))
    close = {"atol": 5e-3, "rtol": 5e-3}  # the cache is float16
    for side, names in (("image", ("pooled", "tokens")), ("text", ("pooled",))):
        for name in names:
            torch.testing.assert_close(got[side][name], want[side][name][:8], **close)
    mask = got["text"]["mask"]
    length = min(want["text"]["mask"].shape[1], mask.shape[1])  # both are cut near the longest text
    assert torch.equal(mask[:, :length], want["text"]["mask"][:8, :length])
    words = [side["text"]["tokens"][:8, :length][mask[:, :length]] for side in (got, want)]
    torch.testing.assert_close(*words, **close)
    assert torch.equal(got["index"], want["index"][:8])


@pytest.mark.parametrize(
    ("build", "sides"),
    [
        *product([guided, pretrain], ["image", "text", "both"]),
        *((hashing(each), "both") for each in (DCMHT, DSPH, MITH, DNPH, TwDH, DIMCH, UMoED)),
    ],
)
def test_every_parameter_of_a_trained_trunk_moves(root, clip, tmp_path, build, sides):
    workers = None if sides == "text" else 0
    data = colours(root, clip, tokens=build is not pretrain, trunk={"sides": sides, "workers": workers})
    model = build(data, trunk_lr=1e-2)
    before = {
        name: value.clone() for side, trunk in data.trunks().items() for name, value in trunk.named_parameters(side)
    }
    made = train(model, data, tmp_path)
    after = dict(model.trunks.named_parameters())
    assert {name.split(".")[0] for name in after} == ({"image", "text"} if sides == "both" else {sides})
    assert after.keys() == before.keys()
    assert not [name for name, value in after.items() if torch.equal(value, before[name])]
    assert 0 < made.callback_metrics["val/map"] <= 1


def test_trunks_have_their_own_rate_and_frozen_layers_stay(root, clip, tmp_path):
    data = colours(root, clip, trunk={"frozen_layers": 2})
    model = pretrain(data, trunk_lr=1e-3)
    before = {side: trunk.state_dict() for side, trunk in data.trunks().items()}
    train(model, data, tmp_path)
    rates = [group["peak"] for group in model.optimizers().param_groups]
    assert rates == [1e-3, 1e-3]
    assert len(model.optimizers().param_groups) == 2
    for side, trunk in model.trunks.items():
        moved = {name for name, value in trunk.state_dict().items() if not torch.equal(value, before[side][name])}
        blocks = {int(name.split("resblocks.")[1][0]) for name in moved if "resblocks." in name}
        assert blocks == {2}
        assert not any("embedding" in name or "conv1" in name for name in moved)


def test_checkpointing_changes_memory_only(root, clip, tmp_path):
    found = []
    for checkpointing in (False, True):
        seed_everything(0, verbose=False)
        data = colours(root, clip, tokens=True, trunk={"checkpointing": checkpointing})
        model = guided(data, trunk_lr=1e-3)
        train(model, data, tmp_path)
        assert model.trunks["image"].tower.transformer.grad_checkpointing is checkpointing
        found.append(outputs(model, data)["image"])
    torch.testing.assert_close(*found)


def test_a_resumed_run_is_the_uninterrupted_one_with_and_without_workers(root, clip, tmp_path):
    found = []
    options = {"per_label": 4, "trunk": {"crop": 0.5, "flip": 0.5}}
    for name, workers in (("whole", 0), ("killed", 2)):
        seed_everything(0, verbose=False)
        options["trunk"]["workers"] = workers
        data = colours(root, clip, **options)
        model = pretrain(data, trunk_lr=1e-2)
        keep = {"callbacks": [SeedEpoch(0), ModelCheckpoint(tmp_path / name, save_last=True)]}
        keep["enable_checkpointing"] = True
        if name == "killed":
            with pytest.raises(Died):
                train(model, data, tmp_path, 3, **keep | {"callbacks": [*keep["callbacks"], Stop()]})
            data = colours(root, clip, **options)
            model = pretrain(data, trunk_lr=1e-2)
            last = tmp_path / name / "last.ckpt"
            make_trainer(tmp_path, 3, **keep).fit(model, datamodule=data, ckpt_path=last, weights_only=False)
        else:
            train(model, data, tmp_path, 3, **keep)
        found.append(outputs(model, data))
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name


def test_a_checkpoint_is_whole_and_its_trunks_serve_another_run(root, clip, tmp_path):
    data = colours(root, clip)
    model = pretrain(data, trunk_lr=1e-2)
    path = tmp_path / "pretrained.ckpt"
    train(model, data, tmp_path).save_checkpoint(path)
    loaded = Pretrain.load_from_checkpoint(path, weights_only=False)
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name]), name
    again = colours(root, clip, weights=str(path), tokens=True)
    for side, trunk in again.trunks().items():
        for name, value in trunk.state_dict().items():
            assert torch.equal(value, model.trunks[side].state_dict()[name]), name
    tuned = guided(again, space="joint")
    train(tuned, again, tmp_path)
    assert "image" in tuned.trunks
    frozen = colours(root, clip, weights=str(path), trunk={"sides": "none", "workers": None})
    want = outputs(model, data)
    torch.testing.assert_close(frozen.role("query")["image"]["pooled"], want["image"], atol=2e-3, rtol=2e-3)


@pytest.mark.ddp
def test_two_processes_train_a_trunk_as_one(root, clip, tmp_path, monkeypatch):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)  # CUDA, where another test has begun it, forks not
    found = []
    for devices in (1, 2):
        seed_everything(0, verbose=False)
        data = colours(root, clip, batch_size=10, trunk={"crop": 0.5})  # 24 pairs: the last batch is not full
        model = pretrain(data, trunk_lr=1e-2)
        model.trunks.update(data.trunks())  # those of the processes come back into the same modules
        strategy = "ddp_fork" if devices > 1 else "auto"
        made = train(model, data, tmp_path, 2, devices=devices, strategy=strategy)
        found.append((model.state_dict(), made.callback_metrics["val/map"]))
    (one, score), (two, shared) = found
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=2e-4, rtol=1e-3, msg=lambda text, n=name: f"{n}: {text}")
    assert score == pytest.approx(float(shared))


def test_only_training_pictures_are_augmented_and_by_seed_epoch_and_pair(root, clip):
    data, plain = (colours(root, clip, trunk={"sides": "image", "crop": crop}) for crop in (0.3, 1.0))
    for loaders in (lambda each: each.val_dataloader(), lambda each: each.test_dataloader()):
        for ours, theirs in zip(loaders(data), loaders(plain), strict=True):
            for got, want in zip(ours, theirs, strict=True):
                assert torch.equal(got["image"]["pixels"], want["image"]["pixels"])
                assert "window" not in got["image"]
    loader = data.train_dataloader()
    windows = {}
    for epoch in (0, 1, 0):
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            for index, window in zip(batch["index"].tolist(), batch["image"]["window"], strict=True):
                assert torch.equal(windows.setdefault((epoch, index), window), window)
    assert len({tuple(window.tolist()) for window in windows.values()}) == 2 * data.num_train
    sides = torch.stack(list(windows.values()))[:, 3]  # all of the height that a crop leaves
    assert sides.min() >= 0.3**0.5
    assert sides.max() <= 1


@pytest.mark.parametrize("crop", [1.0, 0.3])
def test_stored_pictures_give_the_batches_that_decoding_gives(tmp_path, clip, crop):
    write(tmp_path)
    data, plain = (colours(tmp_path, clip, trunk={"cache": cache, "crop": crop}) for cache in (True, False))
    for _ in range(2):  # the second time from the disk by another run, which decodes nothing
        for got, want in zip(data.train_dataloader(), plain.train_dataloader(), strict=True):
            assert torch.equal(got["index"], want["index"])
            assert torch.equal(got["text"]["ids"], want["text"]["ids"])
            assert got["image"].keys() == want["image"].keys() == {"pixels", *(["window"] if crop < 1 else [])}
            for name, value in got["image"].items():
                assert torch.equal(value, want["image"][name])
        data = colours(tmp_path, clip, trunk={"crop": crop})
        assert data.num_train
        data._store.forms.pictures = None
