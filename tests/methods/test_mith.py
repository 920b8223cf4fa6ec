import inspect

import numpy as np
import pytest
import torch

from tests.conftest import CHECKOUT
from tests.losses.test_pairwise import golden
from tests.methods.training import SIZES, Toy, fit
from xmodal.errors import UserError
from xmodal.layers import aggregate_tokens
from xmodal.losses import label_similarity, pairwise_likelihood
from xmodal.methods import MITH, TextGuidedCLIP
from xmodal.methods.mith import MITHWeights, mith_terms

SIZE = {name: size for name, size in SIZES.items() if name != "num_labels"} | {"num_train": 29}
TERMS = {"token": 1.0, "coarse": 10.0, "quantization": 8.0, "contrast": 50.0, "distillation": 1.0}


def small(**changes):
    given = {"bits": 8, "space": "projected", "dim": 8, "hidden": 16, "layers": 1, "heads": 2, **SIZE, **changes}
    return MITH(**given)


def test_the_terms_are_the_published_ones():
    codes = [torch.tanh(1.5 * golden(start, 3, 4)) for start in (0.15, 0.85, 1.45, 2.35)]
    tables = [1.2 * golden(start, 5, 4) for start in (3.1, 3.7, 4.3, 4.9)]
    for table, code in zip(tables, codes, strict=True):
        table[:3] = code
    names = ("image_coarse", "text_coarse", "image_token", "text_token")
    label = torch.tensor([[1, 0], [0, 1], [1, 1], [0, 1], [1, 0]], dtype=torch.float64)
    terms = mith_terms(
        {"image": codes[0], "text": codes[1]},
        {"image": codes[2], "text": codes[3]},
        dict(zip(names, tables, strict=True)),
        label_similarity(label[:3], label),
        {"image": golden(0.25, 3, 6), "text": golden(0.95, 3, 6)},
        {"image": golden(1.25, 3, 4, 6), "text": golden(2.05, 3, 4, 6)},
        TERMS,
    )
    assert float(terms["token"]) == pytest.approx(1.131951739908, abs=1e-11)
    assert float(terms["coarse"]) == pytest.approx(1.153011733387, abs=1e-11)
    assert float(terms["quantization"]) == pytest.approx(0.977170065391, abs=1e-11)
    assert float(terms["contrast"]) == pytest.approx(0.283762596248 + 0.01 * 2.142268881436, abs=1e-11)
    assert float(terms["distillation"]) == pytest.approx(7.316241624946, abs=1e-11)
    assert sum(TERMS[name] * float(term) for name, term in terms.items()) == pytest.approx(43.054935474953, abs=1e-10)


def test_aggregation_is_the_published_one():
    score, tokens = torch.tanh(1.5 * golden(0.6, 1, 4, 3)), golden(1.6, 1, 4, 2)
    mask = torch.tensor([[True, True, True, False]])
    found, weight = aggregate_tokens(score, tokens, mask, top=2)
    expected = [[0.686441983, 0.637382536, 0], [0.313558017, 0, 0], [0, 0.362617464, 1], [0, 0, 0]]
    assert np.allclose(weight[0], expected, atol=1e-9)
    sums = [[0.510883805871, 0.027980323822], [0.181105578142, 0.055124481277], [-0.990546535967, -0.567268551929]]
    assert np.allclose(found[0], sums, atol=1e-11)


def test_a_concept_without_a_token_is_zero():
    found, weight = aggregate_tokens(torch.tensor([[[-1.0, 0.5], [-0.2, 0.1]]]), torch.ones(1, 2, 3))
    assert found[0, 0].tolist() == [0, 0, 0]
    assert torch.isfinite(weight).all()


def test_padded_tokens_change_no_code():
    model, text = small().eval(), Toy().role("query")["text"]
    noisy = {**text, "tokens": torch.where(text["mask"][:, :, None], text["tokens"], 50.0)}
    assert torch.equal(model.encode("text", text), model.encode("text", noisy))


@pytest.mark.parametrize("method", [MITH, TextGuidedCLIP])
def test_in_a_joint_space_the_length_of_tokens_is_of_no_account(method):
    """CLIP's are ten times as long as what is pooled, which vanished in the sum of text_guided_clip."""
    sizes = dict.fromkeys(("image_dim", "text_dim", "image_token_dim", "text_token_dim"), 8)
    sizes = {name: size for name, size in sizes.items() if name in inspect.signature(method).parameters}
    model, draw = method(bits=8, dim=8, **sizes).eval(), torch.Generator().manual_seed(0)
    pooled, tokens = (torch.randn(*shape, generator=draw) for shape in ((5, 8), (5, 4, 8)))
    found = [model.encode("image", {"pooled": pooled, "tokens": scale * tokens}) for scale in (1, 10)]
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("term", sorted(TERMS))
def test_a_weight_of_zero_removes_the_term(term):
    logged = fit(lambda: small(weights=MITHWeights(**{term: 0.0}))).trainer.callback_metrics
    assert {name for name in TERMS if f"train/{name}" not in logged} == {term}


def test_the_likelihood_is_not_clipped_above_64_bits():
    """The release clips half the inner product at 64, where no gradient is left; docs/methods/mith.md says so."""
    code = torch.ones(1, 200, requires_grad=True)
    pairwise_likelihood(code, torch.ones(1, 200), torch.zeros(1, 1)).backward()
    assert code.grad.abs().min() > 0
    assert "Above 64\nbits the release's loss is another one" in (CHECKOUT / "docs/methods/mith.md").read_text()


@pytest.mark.parametrize("wrong", [{"text_token_dim": 0}, {"space": "joint"}])
def test_features_that_do_not_fit_are_refused(wrong):
    with pytest.raises(UserError, match=r"tokens: set data|say space='projected'"):
        small(**wrong)


def test_without_layers_a_token_gives_its_bit():
    model = fit(lambda: small(layers=0))
    assert isinstance(model.bits["image"].blocks, torch.nn.Identity)
