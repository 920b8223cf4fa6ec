import math

import numpy as np
import pytest
import torch

from tests.methods.training import SIZES, Toy, fit
from xmodal.errors import UserError
from xmodal.methods import SCAHN
from xmodal.methods.scahn import SCAHNWeights, scahn_rate

SMALL = {"dim": 16, "hidden": 16, "layers": 1, "queue": 24, "dropout": 0.0, "label_dim": 7, "lr": 1e-3, "warmup": 0.0}


SIZE = {name: SIZES[name] for name in ("image_token_dim", "text_token_dim", "num_labels")}


def small(**changes):
    return SCAHN(**{"bits": 8, **SMALL, **SIZE, **changes})


def test_the_rate_is_the_released_one():
    rates = [4e-5 * scahn_rate(step / 312, 1000 / 312, 10) for step in (0, 500, 1000, 3119, 3120, 6240)]
    assert rates == pytest.approx([0, 2e-5, 4e-5, 4e-5, 1.62628e-5, 6.61196e-6], rel=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"image_branch": "regions", "region_layers": 1},
        {"classifier": "linear"},
        {"label_features": "one_hot"},
        {"contrast": "triplet"},
        {"contrast": "ranked_triplet"},
        {"discriminators": "single"},
        {"codes": "normalised"},
        {"layers": 0},
        {"classification": "double_sigmoid", "codes": "raw", "pooling": "all", "queue_start": "noise", "gcn_lr": 0.2},
    ],
)
def test_every_choice_trains(changes):
    model = fit(lambda: small(**changes))
    assert math.isfinite(model.trainer.callback_metrics["val/map"])


@pytest.mark.parametrize("term", ["classification", "inter", "intra", "adversarial"])
def test_a_weight_of_zero_removes_the_term(term):
    model = fit(lambda: small(weights=SCAHNWeights(**{term: 0.0})))
    logged = model.trainer.callback_metrics
    assert f"train/{term}" not in logged
    assert ("train/discriminator" in logged) == (term != "adversarial")
    assert hasattr(model, "critic") == (term != "adversarial")
    assert hasattr(model, "graph") == (term != "classification")


def test_the_discriminators_move_only_the_hash_layers_and_themselves():
    model, data = small(), Toy()
    batch = data.role("train")
    feature = {side: model._feature(side, batch[side]) for side in ("image", "text")}
    model.critic.fooling({side: model._hash(side, f.detach()) for side, f in feature.items()}).backward()
    touched = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
    assert touched == {"hash", "critic"}


def test_queues_hold_the_last_codes_and_come_back():
    model = fit(small)
    queue, train = model.queue["image"], len(Toy().role("train")["index"])
    assert int(queue.pointer) == train % 24
    assert bool(queue.present.all())
    again = small()
    again.on_load_checkpoint({"state_dict": model.state_dict()})  # what Lightning calls before it loads
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.queue["image"].code, queue.code)
    assert torch.equal(again.queue["text"].label, model.queue["text"].label)


def test_the_length_of_scaled_codes_counts_and_binary_ones_are_those_of_length_one():
    label, code = torch.eye(6)[[0, 0, 1, 1]], torch.tensor([[1.0], [1], [-1], [-1]]).expand(4, 8)

    def contrast(codes, length):
        torch.manual_seed(0)
        length = torch.tensor(length, requires_grad=True)
        relaxed = {"image": length * code, "text": length * code}
        loss = sum(small(codes=codes)._contrast(dict.fromkeys(relaxed, torch.ones(4, 16)), relaxed, label).values())
        return loss.item(), torch.autograd.grad(loss, length)[0].item()

    assert contrast("scaled", 1.0)[0] == pytest.approx(contrast("normalised", 1.0)[0], rel=1e-6)
    assert abs(contrast("scaled", 0.5)[1]) > 1
    assert contrast("normalised", 0.5)[1] == pytest.approx(0, abs=1e-3)


def test_tokens_are_asked_for():
    with pytest.raises(UserError, match=r"set data\.tokens=true"):
        small(image_token_dim=0)


def test_adversarial_terms_by_hand():
    model = small()
    relaxed = {"image": torch.rand(3, 8), "text": -torch.rand(3, 8)}
    p = {
        (d, h): torch.sigmoid(model.critic.nets[d](relaxed[h])).detach().double().numpy()
        for d in ("image", "text")
        for h in ("image", "text")
    }
    fooling = -np.log(p["image", "text"]).mean() - np.log(p["text", "image"]).mean()
    assert model.critic.fooling(relaxed).item() == pytest.approx(fooling, rel=1e-5)
    own = -np.log(p["image", "image"]).mean() - np.log(p["text", "text"]).mean()
    other = -np.log(1 - p["image", "text"]).mean() - np.log(1 - p["text", "image"]).mean()
    assert model.critic.discrimination(relaxed).item() == pytest.approx(own + other, rel=1e-5)
