import math

import pytest
import torch

from tests.methods.training import SIZES, Toy, fit
from xmodal.errors import UserError
from xmodal.layers import ContextDecoder, score_pool, token_scores
from xmodal.methods import TextGuidedCLIP
from xmodal.methods.text_guided_clip import TextGuidedCLIPWeights

SIZE = {name: size for name, size in SIZES.items() if name != "text_token_dim"} | {"label_dim": 7}


def small(**changes):
    sizes = {"dim": 8, "width": 8, "layers": 1, "dropout": 0.0}
    return TextGuidedCLIP(**{"bits": 8, "space": "projected", **sizes, **SIZE, **changes})


@pytest.mark.parametrize("guidance", ["batch", "paired", "prompt"])
@pytest.mark.parametrize(
    "changes", [{}, {"matching": "image"}, {"feature": "global"}, {"layers": 0}, {"head": "select"}]
)
def test_every_choice_trains_every_parameter(guidance, changes):
    model = fit(lambda: small(guidance=guidance, **changes))
    assert math.isfinite(model.trainer.callback_metrics["val/map"])
    model.train()
    model.log_dict = lambda *_, **__: None
    batch = Toy().role("train")
    model.on_train_batch_start(batch, 0)
    model.training_step(batch, 0).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


@pytest.mark.parametrize("guidance", ["batch", "paired", "prompt"])
def test_a_code_knows_nothing_of_its_pair(guidance):
    model, batch = fit(lambda: small(guidance=guidance)).eval(), Toy().role("query")
    alone = model.predict_step(batch, 0)["image"]
    other = {**batch, "text": {"pooled": torch.randn_like(batch["text"]["pooled"])}}
    assert torch.equal(model.predict_step(other, 0)["image"], alone)
    first = {key: value[:1] for key, value in batch["image"].items()}
    assert torch.allclose(model.encode("image", first), model.encode("image", batch["image"])[:1], atol=1e-5)


@pytest.mark.parametrize("term", ["similarity", "matching", "quantization", "intra"])
def test_a_weight_of_zero_removes_the_term(term):
    model = fit(lambda: small(weights=TextGuidedCLIPWeights(**{term: 0.0})))
    names = {"similarity", "matching", "quantization", "intra"}
    assert {name for name in names if f"train/{name}" not in model.trainer.callback_metrics} == {term}
    assert hasattr(model, "scale") == (term != "matching")


def test_an_isolated_query_is_asked_alone():
    query, memory = torch.randn(2, 3, 8), torch.randn(2, 5, 8)
    decoder = ContextDecoder(8, 8, 2, 2, 0.0, isolated=True).eval()
    assert torch.allclose(decoder(query, memory)[:, 1:2], decoder(query[:, 1:2], memory), atol=1e-6)
    decoder = ContextDecoder(8, 8, 2, 2, 0.0, isolated=False).eval()
    assert not torch.equal(decoder(query, memory)[:, 1:2], decoder(query[:, 1:2], memory))


def test_scores():
    tokens, query = torch.tensor([[[2.0, 0], [0, 3]]]), torch.tensor([[[1.0, 1]]])
    scores = token_scores(tokens, query)
    assert torch.allclose(scores, torch.full((1, 1, 2), 0.5**0.5))
    for kind in ("logsumexp", "mean", "max"):  # of equal scores all three are that score
        assert score_pool(scores, kind).item() == pytest.approx(0.5**0.5)
    assert score_pool(torch.tensor([0.0, 2.0]), "logsumexp").item() == pytest.approx(math.log((1 + math.e**2) / 2))


@pytest.mark.parametrize("wrong", [{"image_token_dim": 0}, {"space": "joint"}])
def test_features_that_do_not_fit_are_refused(wrong):
    with pytest.raises(UserError, match=r"tokens: set data|say space='projected'"):
        small(**wrong)
