"""What holds for every method: a method is covered by being registered."""

import dataclasses
import inspect
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from lightning import Callback, seed_everything

from tests.methods.toy import CLOSED, REGISTRY, SIZE, Toy, build, default
from tests.methods.training import HARMLESS, Died, make_trainer, train
from xmodal.batch import SIDES
from xmodal.callbacks import SeedEpoch
from xmodal.checkpoint import WholeCheckpoints, keepers, read_checkpoint, resumable
from xmodal.commands.evaluate import evaluate_file
from xmodal.data.split import Split
from xmodal.errors import UserError
from xmodal.metrics import retrieval_metrics

pytestmark = [
    *(pytest.mark.filterwarnings(f"ignore:{message}") for message in HARMLESS),
    pytest.mark.filterwarnings("ignore:`LightningModule.configure_optimizers` returned `None`"),
]
GRADIENT = [name for name in REGISTRY if name not in CLOSED]


@pytest.fixture(autouse=True)
def _same_draws():
    """Whichever tests ran before: the codes of some first weights collapse on so few pairs."""
    seed_everything(0, verbose=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Every method after two epochs, made when it is first asked for."""
    made = {}

    def get(name):
        if name not in made:
            seed_everything(0, verbose=False)
            data = Toy()
            model = build(name, data)
            made[name] = model, data, train(model, data, tmp_path_factory.mktemp(name), epochs=2)
        return made[name]

    return get


def outputs(model, batch):
    model.eval()
    with torch.no_grad():
        return model.encode("image", batch["image"]), model.encode("text", batch["text"])


@pytest.mark.parametrize("name", REGISTRY)
def test_neither_side_sees_the_other(trained, name):
    """Replace the partner, or the other pairs of the batch: the output of an item stays the same."""
    model, data, _ = trained(name)
    batch = data.role("query")
    image, text = outputs(model, batch)
    for side, before in (("image", image), ("text", text)):
        other = {"image": "text", "text": "image"}[side]
        swapped = {**batch, other: {key: value.flip(0) for key, value in batch[other].items()}}
        assert torch.equal(outputs(model, swapped)[side == "text"], before)
        alone = {each: {key: value[:3] for key, value in batch[each].items()} for each in ("image", "text")}
        assert torch.allclose(outputs(model, alone)[side == "text"], before[:3], atol=1e-5)


@pytest.mark.parametrize("name", [name for name in REGISTRY if default(name, "image_token_dim") is not None])
def test_tokens_kept_as_float16_give_the_same_numbers(trained, name, tmp_path):
    model, _, trainer = trained(name)
    seed_everything(0, verbose=False)
    data = Toy(np.float16)
    assert data.role("train")["image"]["tokens"].dtype == torch.float16
    other = build(name, data)
    others = train(other, data, tmp_path, epochs=2)
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value)
    trainer.test(model, datamodule=Toy(), verbose=False)
    others.test(other, datamodule=data, verbose=False)
    assert other.results == model.results


@pytest.mark.parametrize("name", REGISTRY)
def test_a_checkpoint_gives_the_same_outputs(trained, name, tmp_path):
    model, data, trainer = trained(name)
    trainer.save_checkpoint(tmp_path / "saved.ckpt")
    loaded = REGISTRY[name].load_from_checkpoint(tmp_path / "saved.ckpt", weights_only=False)
    batch = data.role("query")
    for before, after in zip(*(outputs(each, batch) for each in (model, loaded)), strict=True):
        assert torch.equal(before, after)
    for side in SIDES:  # a new picture or text, as its encoder gives it
        raw = {"pooled": torch.from_numpy(data.pairs().arrays(side)["pooled"][data.split().query])}
        assert torch.equal(loaded.standardise(side, raw)["pooled"], batch[side]["pooled"])
    assert data.pairs().arrays("image")["pooled"].mean(0) != pytest.approx(0, abs=1e-3)


def test_a_checkpoint_without_moments_still_opens_and_says_what_it_lacks(trained, tmp_path):
    model, data, trainer = trained("dcmh")
    trainer.save_checkpoint(tmp_path / "new.ckpt")
    checkpoint = torch.load(tmp_path / "new.ckpt", weights_only=False)
    state = {key: value for key, value in checkpoint["state_dict"].items() if not key.startswith("standardisation")}
    torch.save({**checkpoint, "state_dict": state}, tmp_path / "old.ckpt")
    loaded = REGISTRY["dcmh"].load_from_checkpoint(tmp_path / "old.ckpt", weights_only=False)
    with pytest.raises(UserError, match="does not say how image features were standardised"):
        loaded.standardise("image", data.role("query")["image"])
    trainer.test(model, datamodule=data, verbose=False)
    expected = dict(model.results)
    other = build("dcmh", data)
    tester = make_trainer(tmp_path)
    tester.test(other, datamodule=data, ckpt_path=tmp_path / "old.ckpt", weights_only=False, verbose=False)
    assert other.results == expected
    assert {"standardisation.image.mean", "standardisation.text.deviation"} <= other.state_dict().keys()


@pytest.mark.parametrize("name", REGISTRY)
def test_test_metrics_are_kept_and_explained(trained, name):
    model, data, trainer = trained(name)
    trainer.test(model, datamodule=data, verbose=False)
    assert 0 < model.results["test/map"] <= 1
    explained = model.conventions()
    assert model.results.keys() - explained.keys() == {"test/map"}
    assert {"test/map_i2i", "test/map_t2t"} <= model.results.keys()


def of_file(model, path):
    """What `xmodal evaluate` finds in the codes of the last test."""
    np.savez_compressed(path, **{key: value.numpy() for key, value in model.test_metrics["retrieval"].outputs.items()})
    return {f"test/{key}": value for key, value in evaluate_file(path).metrics.items()}


@pytest.mark.parametrize("name", REGISTRY)
def test_codes_in_a_file_give_the_numbers_of_the_record(trained, name, tmp_path):
    """To the last digit, by the finest class."""
    model, data, trainer = trained(name)
    trainer.test(model, datamodule=data, verbose=False)
    wanted = {key: value for key, value in model.results.items() if key != "test/map" and "reranked" not in key}
    assert of_file(model, tmp_path / "codes.npz") == wanted
    assert model.output_size == len(model.test_metrics["retrieval"].outputs["query_image"][0])
    if name == "hierarchical_adversarial":
        assert model.output_size == 2 * model.hparams["dim"]


class Captioned(Toy):
    """Two captions a picture."""

    def pairs(self):
        pairs = super().pairs()
        rows = np.arange(SIZE) // 2 * 2
        image = {name: array[rows] for name, array in pairs.image.items()}
        return dataclasses.replace(pairs, image=image, hierarchy=pairs.hierarchy[rows], group=rows + 5)


@pytest.mark.parametrize(
    ("data", "rule"),
    [(Toy, "label"), (Toy, "finest"), (Captioned, "label"), (Captioned, "finest"), (Captioned, "group")],
)
@pytest.mark.parametrize("kind", ["binary", "real"])
def test_codes_in_a_file_say_what_is_relevant(data, rule, kind, tmp_path):
    """For every rule of a data module, and several captions a picture."""
    module = data(relevance=rule)
    model = build("cca", module, **({"bits": 16, "dim": None} if kind == "binary" else {}))
    trainer = train(model, module, tmp_path)
    trainer.test(model, datamodule=module, verbose=False)
    found = of_file(model, tmp_path / "codes.npz")
    assert found == {key: value for key, value in model.results.items() if key != "test/map"}
    assert ("test/hit@1_i2t" in found) == (data is Captioned)
    assert ("test/mapp_i2t" in found) == (rule != "label")
    assert ("test/map_i2i" in found) == (rule != "group")  # no other picture is the same one


@pytest.mark.parametrize("name", GRADIENT)
def test_overfits_32_pairs(name, tmp_path):
    seed_everything(0, verbose=False)
    data = Toy()
    rate = 2e-2 if name == "dnph" else 5e-3  # a softmax over distances of at most 4 has small gradients
    rates = {key: rate for key in inspect.signature(REGISTRY[name]).parameters if key.endswith("lr")}
    model = build(name, data, **rates)
    train(model, data, tmp_path, epochs=60, limit_val_batches=0.0)
    batch = data.role("train")
    image, text = outputs(model, batch)
    metric = retrieval_metrics(model.kind, detail="map")
    label = torch.eye(len(image)) if name == "pretrain" else batch["label"]  # it learns which text is whose, no labels
    for split in ("query", "database"):
        metric.update(split=split, image=image, text=text, label=label, index=batch["index"])
    least = 0.75 if name == "djsrh" else 0.95  # it reads no labels
    assert min(float(value) for value in metric.compute().values()) > least


class Odd(Toy):
    """33 training pairs: an epoch ends with a batch of one."""

    def split(self):
        train, val, test = np.split(np.arange(SIZE), [33, 64])
        return Split(train, val, val, test, test)


@pytest.mark.parametrize("name", GRADIENT)
def test_an_epoch_may_end_with_a_single_pair(name, tmp_path):
    data = Odd()
    model = build(name, data, **({"pairs_per_dim": 1.0} if name == "alscor" else {}))
    if name == "alscor":  # one pair has no correlation
        with pytest.raises(UserError, match=r"a batch of 1 pairs is too small.* data.drop_last=true"):
            train(model, data, tmp_path)
    else:
        train(model, data, tmp_path)
        assert all(parameter.isfinite().all() for parameter in model.parameters())


class Peaks(Callback):
    """Makes the first epoch look best, and dies where it is told to."""

    def __init__(self, dies=None):
        self.dies = dies

    def on_validation_epoch_end(self, trainer, pl_module):
        pl_module.log("val/map", 1.0 if trainer.current_epoch == 0 else 0.5)

    def on_train_epoch_start(self, trainer, pl_module):
        if self.dies == trainer.current_epoch:
            raise Died

    def on_train_end(self, trainer, pl_module):
        if self.dies == trainer.max_epochs:
            raise Died


@pytest.mark.parametrize("name", GRADIENT)
@pytest.mark.parametrize("dies", [2, 3])
def test_a_resumed_run_is_the_uninterrupted_one(name, dies, tmp_path, monkeypatch):
    """It repeats at most the epoch it was in, also where the best epoch was the first, and after the last one."""
    monkeypatch.setattr(REGISTRY[name], "_compute", lambda self, stage, metrics: {})  # the callback's score alone
    for folder, moments in ((tmp_path / "whole", (None,)), (tmp_path / "killed", (dies, None))):
        for turn, moment in enumerate(moments):
            seed_everything(turn, verbose=False)
            data = Toy()
            model, began = build(name, data), []
            trainer = make_trainer(
                tmp_path,
                3,
                callbacks=[SeedEpoch(0), Peaks(moment), *keepers(folder)],
                plugins=[WholeCheckpoints()],
                enable_checkpointing=True,
            )
            monkeypatch.setattr(
                model, "on_train_epoch_start", counted(model.on_train_epoch_start, began), raising=False
            )
            with pytest.raises(Died) if moment else nullcontext():
                trainer.fit(model, datamodule=data, ckpt_path=resumable(folder))
            if turn:
                assert len(began) == 3 - dies
    for kept in ("last", "best"):
        whole, killed = (read_checkpoint(tmp_path / part / f"{kept}.ckpt") for part in ("whole", "killed"))
        assert whole["epoch"] == killed["epoch"] == (2 if kept == "last" else 0)
        for key, value in whole["state_dict"].items():
            assert torch.equal(value, killed["state_dict"][key]), key


def counted(method, calls):
    """The method, noting that it was called."""

    def call():
        calls.append(None)
        return method()

    return call
