"""What holds for the weights of every method: 0 removes a term, and each term is logged as its mean."""

import dataclasses
import inspect

import pytest
from lightning.pytorch.loggers import CSVLogger

from tests.methods.toy import REGISTRY, Toy, build
from tests.methods.training import HARMLESS, train

pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in (*HARMLESS, ".* codes have collapsed")]
WEIGHTED = [
    (name, field.name)
    for name, cls in REGISTRY.items()
    if "weights" in inspect.signature(cls).parameters
    for field in dataclasses.fields(inspect.signature(cls).parameters["weights"].default)
]


class Terms(CSVLogger):
    """Keeps what was logged."""

    def log_metrics(self, metrics, step=None):
        self.seen = {*getattr(self, "seen", ()), *metrics}

    def save(self):
        pass


@pytest.mark.parametrize(("name", "weight"), WEIGHTED)
def test_weight_zero_removes_the_term(name, weight, tmp_path):
    """No term of that name, and no parameter that is left without a gradient: plain ddp would stop there."""
    default = inspect.signature(REGISTRY[name]).parameters["weights"].default
    if name == "dmsf" and weight == "quantization":
        weights = dataclasses.replace(default, quantization=0, graph=0)
    else:
        weights = dataclasses.replace(default, **{weight: 0.0})
    data = Toy()
    model = build(name, data, weights=weights)
    touched = set()
    for key, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, key=key: touched.add(key))
    logger = Terms(tmp_path)
    train(model, data, tmp_path, logger=logger)
    assert f"train/{weight}" not in logger.seen
    assert {key for key, _ in model.named_parameters()} == touched


def test_a_term_of_some_steps_is_logged_beside_the_mean_of_all(tmp_path):
    losses = []

    class Sometimes(REGISTRY["dscmr"]):
        def training_step(self, batch, batch_idx):
            none = 0 * self.common.weight.sum()
            loss = self.weigh({"label": none + batch_idx, **({} if batch_idx % 3 else {"invariance": none + 5})})
            losses.append(float(loss.detach()))
            return loss

    data = Toy(batch_size=6)
    sizes = {name: getattr(data, name) for name in ("image_dim", "text_dim", "num_labels")}
    logged = train(Sometimes(**sizes), data, tmp_path).callback_metrics
    assert len(losses) == 6
    assert float(logged["train/loss"]) == pytest.approx(sum(losses) / 6)
    assert float(logged["train/label"]) == pytest.approx(2.5)
    assert float(logged["train/invariance"]) == pytest.approx(5)
