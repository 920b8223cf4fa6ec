"""A training step never waits for the device: on `meta` tensors, which hold no values, it runs through.

What a library's kernel waits for inside does not show there: on CUDA, ALSCOR's Cholesky and singular values do. Where
there is a GPU, whole steps are watched by CUDA's own check: loader, backward pass and optimizer included.
"""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from lightning import Callback

from tests.methods.test_every_method import GRADIENT
from tests.methods.test_every_method import pytestmark as harmless
from tests.methods.toy import REGISTRY, Toy, build
from tests.methods.training import train
from xmodal.data import loading
from xmodal.data.loading import take
from xmodal.methods.dnph import DNPHWeights

pytestmark = [*harmless, pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype")]
CHOICES = {
    "alscor": {"pairs_per_dim": 1.0},  # 32 pairs in 16 dimensions
    "dnph": {"weights": DNPHWeights(uniform=0)},  # corners are dealt on the host, which waits for the codes
}
gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="CUDA says what waits")


def on_meta(value):
    return {key: on_meta(part) for key, part in value.items()} if isinstance(value, dict) else value.to("meta")


class Optimizer:
    def zero_grad(self):
        pass

    step = zero_grad


def step(name, monkeypatch, **choices):
    """One training step of a method on `meta`, with a trainer and optimizers that do nothing."""
    data = Toy()
    model = build(name, data, **choices)
    trainer = SimpleNamespace(
        world_size=1, datamodule=data, max_epochs=1, estimated_stepping_batches=1, current_epoch=0
    )
    monkeypatch.setattr(REGISTRY[name], "trainer", trainer)
    model.on_fit_start()
    model = model.to("meta")
    found = model.configure_optimizers()
    found = found[0] if isinstance(found, tuple) else found
    monkeypatch.setattr(model, "log", lambda *_, **__: None)
    monkeypatch.setattr(model, "log_dict", lambda *_, **__: None)
    monkeypatch.setattr(model, "optimizer_list", lambda: [Optimizer() for _ in found])
    monkeypatch.setattr(model, "toggled_optimizer", lambda _: nullcontext())
    monkeypatch.setattr(model, "manual_backward", lambda loss: loss.backward())
    monkeypatch.setattr(model, "clip_gradients", lambda *_: None)
    monkeypatch.setattr(model, "lr_schedulers", list)
    batch = on_meta(data.role("train"))
    model.on_train_batch_start(batch, 0)
    loss = model.training_step(batch, 0)
    if loss is not None:
        loss.backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", GRADIENT)
def test_a_step_needs_no_value(name, monkeypatch):
    step(name, monkeypatch, **CHOICES.get(name, {}))


def test_a_step_that_looks_is_found(monkeypatch):
    monkeypatch.setattr(REGISTRY["dcmht"], "weigh", lambda self, terms: terms["inter"] * terms["inter"].item())
    with pytest.raises(RuntimeError, match="meta"):
        step("dcmht", monkeypatch)


class Watched(Callback):
    """What waits for the GPU between the end of an epoch's first step and the start of its last is an error."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 0:
            torch.cuda.set_sync_debug_mode("error")

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == trainer.num_training_batches - 1:
            torch.cuda.set_sync_debug_mode("default")


def watched(name, folder):
    data = Toy(batch_size=8)  # four steps
    options = {"accelerator": "gpu", "devices": 1, "limit_val_batches": 0}
    try:
        train(build(name, data), data, folder, 2, callbacks=[Watched()], **options)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@gpu
@pytest.mark.parametrize("name", [name for name in GRADIENT if name not in CHOICES])
def test_no_step_waits_for_the_gpu(name, tmp_path):
    watched(name, tmp_path)


@gpu
def test_a_loader_that_waits_is_found(tmp_path, monkeypatch):
    def waits(whole, positions):
        positions.tolist()
        return take(whole, positions)

    monkeypatch.setattr(loading, "take", waits)
    with pytest.raises(RuntimeError, match="synchronizing"):
        watched("dcmht", tmp_path)
