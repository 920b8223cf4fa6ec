"""The floor: trunks' own embeddings, real and signed; chance where they share no space, and a refusal that says so."""

import numpy as np
import pytest
import torch

from tests.methods.training import HARMLESS, make_trainer
from xmodal.data import CrossModalDataModule, Pairs
from xmodal.data.split import make_split
from xmodal.errors import UserError
from xmodal.methods import Untrained

NONE = "`LightningModule.configure_optimizers` returned `None`"
pytestmark = [pytest.mark.filterwarnings(f"ignore:{message}") for message in (*HARMLESS, NONE)]
D = 32


class Joint(CrossModalDataModule):
    """Pairs in one space: a class's direction, noise, and a gap between the sides, as CLIP has one."""

    name = "joint"

    def __init__(self, gap=0.0, **kwargs):
        super().__init__(root=".", **({"image_scaling": "none", "text_scaling": "none"} | kwargs))
        self.gap = gap

    def split(self):
        return make_split(np.arange(100, 300), np.arange(100), 50, seed=0, database="test")

    def pairs(self):
        rng = np.random.default_rng(0)
        classes = np.arange(300) % 5
        centre = rng.normal(size=(5, D))
        image, text = (centre[classes] + rng.normal(size=(300, D)) for _ in range(2))
        sides = ({"pooled": (image + self.gap).astype(np.float32)}, {"pooled": text.astype(np.float32)})
        return Pairs(*sides, np.eye(5, dtype=np.uint8)[classes], tuple("abcde"))


def scores(data, **choices):
    torch.manual_seed(0)
    model = Untrained(image_dim=D, text_dim=D, **choices)
    trainer = make_trainer(None)
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
    return model, model.results


def test_the_features_own_size_leaves_them_as_they_are():
    model, found = scores(Joint(), dim=D)
    image = Joint().role("query")["image"]
    assert torch.equal(model.encode("image", image), image["pooled"])
    signed, signs = scores(Joint(), bits=D)
    assert torch.equal(signed.encode("text", image), image["pooled"])
    chance = found["test/random_i2t"]
    assert found["test/map"] > signs["test/map"] > chance + 0.3


def test_both_sides_share_the_projection_to_another_size():
    model, found = scores(Joint(), bits=16)
    assert torch.equal(model.image_projection, model.text_projection)
    assert found["test/map"] > found["test/random_i2t"] + 0.2


def test_sides_of_one_space_that_the_data_standardise_are_told(capsys):
    """Each side is scaled by itself, so that what is ranked is not what the trunks of one space gave."""
    as_they_are = scores(Joint(5.0), dim=D)[1]["test/map"]
    assert "one space" not in capsys.readouterr().err
    scaled = scores(Joint(5.0, image_scaling="standard", text_scaling="standard"), dim=D)[1]["test/map"]
    assert scaled > as_they_are + 0.1
    assert "say data.image_scaling=none and data.text_scaling=none" in capsys.readouterr().err
    scores(Joint(image_scaling="standard"), dim=D, space="none")
    assert "one space" not in capsys.readouterr().err


def test_without_a_joint_space_it_is_chance():
    model, found = scores(Joint(), bits=64, space="none")
    assert not torch.equal(model.image_projection, model.text_projection)
    assert abs(found["test/map"] - found["test/random_i2t"]) < 0.06
    with pytest.raises(UserError, match=r"of 12 and 10 numbers share no space.*space=none, which scores chance"):
        Untrained(bits=8, image_dim=12, text_dim=10)


def test_centring_closes_the_gap_between_the_sides():
    near, apart, centred = (
        scores(Joint(gap), bits=D, centre=centre)[1]["test/map"]
        for gap, centre in ((0.0, "none"), (5.0, "none"), (5.0, "train"))
    )
    assert apart < near - 0.2
    assert abs(centred - near) < 0.05


@pytest.mark.parametrize("sizes", [{}, {"bits": 8, "dim": 8}])
def test_one_size_is_needed(sizes):
    with pytest.raises(UserError, match="untrained takes either bits"):
        Untrained(image_dim=8, text_dim=8, **sizes)
