"""A training step never waits for the device: on `meta` tensors, which hold no values, it runs through.

What a library's kernel waits for inside does not show here: on CUDA, ALSCOR's Cholesky and singular values do.
"""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from tests.methods.test_every_method import GRADIENT
from tests.methods.toy import REGISTRY, Toy, build


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
    loss = model.training_step(on_meta(data.role("train")), 0)
    if loss is not None:
        loss.backward()
    assert any(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.parametrize("name", GRADIENT)
def test_a_step_needs_no_value(name, monkeypatch):
    step(name, monkeypatch, **({"pairs_per_dim": 1.0} if name == "alscor" else {}))  # 32 pairs in 16 dimensions


def test_a_step_that_looks_is_found(monkeypatch):
    monkeypatch.setattr(REGISTRY["dcmht"], "weigh", lambda self, terms: terms["inter"] * terms["inter"].item())
    with pytest.raises(RuntimeError, match="meta"):
        step("dcmht", monkeypatch)
