import pytest
import torch
import yaml
from torch.optim.lr_scheduler import StepLR

from tests.conftest import CHECKOUT
from tests.methods.training import SIZES, fit
from xmodal.methods import DSPH
from xmodal.methods.dsph import DSPHWeights

SIZE = {name: SIZES[name] for name in ("image_dim", "text_dim", "num_labels")}


def small(**changes):
    return DSPH(**{"bits": 8, "dropout": 0.0, "lr": 1e-2, **SIZE, **changes})


def test_both_optimizers_step():
    model, start = fit(small), small()
    assert model.proxy.shape == (6, 8)
    fresh = fit(lambda: small(lr=0.0, proxy_lr=0.0))
    assert not torch.equal(model.proxy, fresh.proxy)
    assert not torch.equal(model.head["image"][1].weight, fresh.head["image"][1].weight)
    assert start.zeta == 1 - 2 * 4 / 8  # k = 3 for 6 labels: d(8, 3) = 4


def test_a_method_that_optimises_by_hand_steps_its_own_schedules():
    """As Lightning has it: the base stepped them in every batch as well."""

    class Own(DSPH):
        def configure_optimizers(self):
            optimizers = super().configure_optimizers()
            return optimizers, [StepLR(optimizers[1], 1, 0.5)]

        def on_train_epoch_end(self):
            super().on_train_epoch_end()
            self.lr_schedulers().step()

    model = fit(lambda: Own(bits=8, dropout=0.0, **SIZE), 3)
    assert model.optimizers()[1].param_groups[0]["lr"] == 0.02 * 0.5**3


@pytest.mark.parametrize("data", ["emoji", "wikipedia"])
def test_small_sets_have_small_batches(data):
    """At 128 pairs an epoch of a thousand has too few steps: .01 of mAP."""
    given = yaml.safe_load((CHECKOUT / "experiments" / "dsph" / f"{data}.yaml").read_text())
    assert given["data"]["init_args"]["batch_size"] <= 100


def test_a_weight_of_zero_removes_the_term():
    model = fit(lambda: small(weights=DSPHWeights(proxy=0.0)))
    assert model.proxy is None
    assert "train/proxy" not in model.trainer.callback_metrics
    logged = fit(lambda: small(weights=DSPHWeights(irrelevant=0.0))).trainer.callback_metrics
    assert "train/irrelevant" not in logged
    assert "train/proxy" in logged
