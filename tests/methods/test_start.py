"""Before the first step no method is saturated: a relaxed code near -1 or +1 has no gradient to learn from."""

import inspect

import pytest
import torch
from lightning import seed_everything

from tests.methods.toy import CLOSED, REGISTRY
from xmodal.cli import XmodalCLI
from xmodal.experiment import configuration
from xmodal.methods import DCMHT

BINARY = [
    name for name, method in REGISTRY.items() if "bits" in inspect.signature(method).parameters and name not in CLOSED
]
TANH = ["acmr", "alscor"]  # real-valued, with tanh at the end


def saturated(model, sides):
    """The larger share of both sides' outputs beyond .99."""
    model.eval()
    with torch.no_grad():
        outputs = model.encode("image", sides["image"]), model.encode("text", sides["text"])
    return max(float((each.abs() > 0.99).float().mean()) for each in outputs)


def made_up(image_dim, text_dim, pairs=16):
    """Standardised features and tokens of these sizes, and the arguments of a constructor for them."""
    draw = torch.Generator().manual_seed(0)
    sides = {}
    for side, dim in (("image", image_dim), ("text", text_dim)):
        pooled = torch.randn(pairs, dim, generator=draw)
        sides[side] = {"pooled": pooled, "tokens": torch.randn(pairs, 3, dim, generator=draw)}
    sides["text"]["mask"] = torch.ones(pairs, 3, dtype=torch.bool)
    sizes = {"image_dim": image_dim, "text_dim": text_dim, "image_token_dim": image_dim, "text_token_dim": text_dim}
    return sides, sizes | {"num_labels": 10, "num_train": pairs, "space": "projected"}


@pytest.mark.parametrize("name", BINARY + TANH)
def test_less_than_half_is_saturated_on_emoji(home, name):
    size = "bits" if name in BINARY else "dim"
    arguments = [*configuration(name, "emoji"), f"--model.{size}=64"]
    with XmodalCLI(arguments, checkpoints=False, loggers=False) as cli:
        train = cli.datamodule.role("train")
        sides = {side: {key: rows[:16].float() for key, rows in train[side].items()} for side in ("image", "text")}
        if "mask" in sides["text"]:
            sides["text"]["mask"] = sides["text"]["mask"].bool()
        assert saturated(cli.model, sides) < 0.5


@pytest.mark.parametrize("sizes", [(128, 10), (1280, 384)], ids=["wikipedia", "fashion"])
@pytest.mark.parametrize("name", BINARY + TANH)
def test_less_than_half_is_saturated_on_standardised_features(name, sizes):
    sides, arguments = made_up(*sizes)
    seed_everything(0, verbose=False)
    fitting = {key: value for key, value in arguments.items() if key in inspect.signature(REGISTRY[name]).parameters}
    assert saturated(REGISTRY[name](**fitting), sides) < 0.5


def test_the_select_head_of_text_guided_clip_is_not_saturated():
    sides, arguments = made_up(1280, 384)
    fitting = {key: arguments[key] for key in ("image_dim", "text_dim", "image_token_dim", "num_labels", "space")}
    assert saturated(REGISTRY["text_guided_clip"](head="select", **fitting), sides) < 0.5


def small(**arguments):
    seed_everything(0, verbose=False)
    return DCMHT(bits=4, hidden=8, image_dim=6, text_dim=6, **arguments)


def test_features_as_the_encoder_made_them_get_the_release_s_heads():
    """The numbers are those of the code before there was a choice, for a feature of norm 10."""
    feature = {"pooled": 10 * torch.nn.functional.normalize(torch.arange(6.0)[None] - 2.3)}
    expected = [
        [0.9171944260597229, 0.9256007671356201, -0.9785071611404419, 0.9488611817359924],
        [-1.0, -1.0, -0.9986993670463562, -0.9999980330467224],
    ]
    for model in (small(standardised=()), small(init="release")):
        found = torch.cat([model.encode("image", feature), model.encode("text", feature)])
        assert torch.allclose(found, torch.tensor(expected), atol=1e-5)


@pytest.mark.parametrize("scaling", ["none", "standard"])
def test_the_data_say_which_side_is_standardised(home, scaling):
    arguments = [*configuration("dcmht", "emoji"), f"--data.image_scaling={scaling}"]
    with XmodalCLI(arguments, checkpoints=False, loggers=False) as cli:
        bounds = {side: float(head.reduce.weight.detach().abs().max()) for side, head in cli.model.head.items()}
    image = (6 / 128) ** 0.5 if scaling == "none" else (6 / 1280) ** 0.5
    assert bounds == pytest.approx({"image": image, "text": (6 / 384) ** 0.5}, rel=1e-3)
