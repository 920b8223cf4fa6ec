"""DIMCH and UMoED: the release's terms on golden inputs, losses against plain formulas, and their modules."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.methods.training import SIZES, Toy, fit
from xmodal.errors import UserError
from xmodal.layers import SoftMoE, TokenFilters
from xmodal.losses import graded_triplet, ndcg_gain, set_discrepancy, set_diversity, sign, smooth_chamfer
from xmodal.losses.pairwise import euclidean
from xmodal.methods import DIMCH, UMoED
from xmodal.methods.dimch import DIMCHWeights, dimch_terms
from xmodal.methods.umoed import UMoEDWeights, binary_digits, umoed_terms

SIZE = {name: SIZES[name] for name in ("image_token_dim", "text_token_dim")}
LABEL = torch.tensor([[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 0, 0, 1]], dtype=torch.float64)
BUILD = {
    "dimch": lambda **changes: DIMCH(**{"bits": 8, "space": "projected", "dim": 8, "hidden": 16, **SIZE, **changes}),
    "umoed": lambda **changes: UMoED(
        **{"bits": 8, "space": "projected", "dim": 8, "hidden": 16, "layers": 2, "heads": 2, **SIZE, **changes}
    ),
}


def drawn(*shape):
    draw = np.random.RandomState(0)
    image, text = (torch.from_numpy(draw.randn(*shape)) for _ in range(2))
    return image.requires_grad_(), text


@pytest.mark.parametrize(("across", "diversity", "total"), [(True, 0.0017708, 38.2177098), (False, 3.6e-6, 38.2171796)])
def test_dimch_s_terms_are_those_of_the_release(across, diversity, total):
    image, text = drawn(4, 3, 8)
    weights = DIMCHWeights()
    terms = dimch_terms(image, text, LABEL, weights, 16.0, (0.3, 0.3), across=across)
    expected = {
        "sets": (0.2753468 + 0.2752840) / 2,
        "discrepancy": 0.0780087,
        "diversity": diversity,
        "codes": (0.4391666 + 0.5181360) / 2,
        "quantization": (0.4204864 + 0.4611769) / 2,
    }
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, abs=1e-7)
    loss = sum(getattr(weights, name) * term for name, term in terms.items())
    assert loss.item() == pytest.approx(total, abs=1e-6)
    if across:
        loss.backward()
        assert image.grad.abs().sum().item() == pytest.approx(84.7284, abs=1e-4)


def test_the_chamfer_similarity_is_that_of_the_release():
    image, text = (F.normalize(each.detach(), dim=2) for each in drawn(4, 3, 8))
    found = smooth_chamfer(image, text, 16.0)
    assert found[0].tolist() == pytest.approx([0.372711, 0.416569, 0.215331, 0.311258], abs=1e-6)
    assert torch.allclose(smooth_chamfer(text, image, 16.0), found.T)
    cosine = torch.einsum("imk,jnk->ijmn", image, text)
    best = (cosine.amax(3).mean(2) + cosine.amax(2).mean(2)) / 2
    assert torch.allclose(smooth_chamfer(image, text, 5000.0), best, atol=1e-3)


@pytest.mark.parametrize(
    ("words", "triplets", "diversities", "total", "bits", "gradient"),
    [
        (2, (0.0842617, 0.0812344), (0.0395473, 0.0360506), 0.0615335, "-+--++", 0.177908),
        (4, (0.1188477, 0.1075407), (0.0025162, 0.0002731), 0.0573409, "++--++----+-", 0.138271),
    ],
)
def test_umoed_s_terms_are_those_of_the_release(words, triplets, diversities, total, bits, gradient):
    image, text = drawn(4, 6, words)
    terms = umoed_terms(image, text, LABEL, UMoEDWeights(), 0.3, 0.1)
    assert terms["triplet"].item() == pytest.approx(sum(triplets) / 4, abs=1e-7)
    assert terms["diversity"].item() == pytest.approx(sum(diversities) / 3, abs=1e-7)
    loss = terms["triplet"] + 0.8 * terms["diversity"]
    assert loss.item() == pytest.approx(total, abs=1e-6)
    loss.backward()
    assert image.grad.abs().sum().item() == pytest.approx(gradient, abs=1e-5)
    model = BUILD["umoed"](bits=len(bits), word_bits=len(bits) // 6)
    code = sign(model.relaxed(image.detach()))[0]
    assert "".join("+" if bit > 0 else "-" for bit in code) == bits


def test_digits_of_words():
    assert binary_digits(2).tolist() == [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    assert binary_digits(1).tolist() == [[-1], [1]]


def test_graded_triplets_are_the_sum_over_all_triplets():
    draw = np.random.default_rng(0)
    label = (draw.random((9, 5)) < 0.4).astype(float)
    label[4] = 0  # an item without a label has no triplet, and nothing is NaN
    distance = draw.random((9, 9))
    gain, similar = ndcg_gain(*2 * [torch.from_numpy(label)]).numpy(), label @ label.T > 0
    hinge = np.clip(distance[:, :, None] - distance[:, None, :] + 0.2, 0, None)
    weighted = gain[:, :, None] * (similar[:, :, None] & ~similar[:, None, :]) * hinge
    found = graded_triplet(torch.from_numpy(distance), torch.from_numpy(label), 0.2)
    assert found.item() == pytest.approx(weighted.sum() / (weighted > 0).sum(), rel=1e-12)
    assert graded_triplet(torch.from_numpy(distance), torch.ones(9, 2).double(), 0.2).item() == 0


def test_gradients():
    label = LABEL
    distance = torch.from_numpy(np.random.RandomState(1).rand(4, 4)).requires_grad_()
    assert torch.autograd.gradcheck(lambda d: graded_triplet(d, label, 0.3), distance)
    image, text = (F.normalize(each, dim=2).detach() for each in drawn(4, 3, 8))
    image.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: smooth_chamfer(x, text, 16.0), image)
    assert torch.autograd.gradcheck(lambda x: set_discrepancy(x, text), image)
    assert torch.autograd.gradcheck(set_diversity, image)


def test_distances_are_exact_where_vectors_are_close_and_their_slope_is_0_where_they_are_equal():
    """An expanded product in float32 gives 3e-4 for equal rows and loses a distance of 1e-4."""
    torch.manual_seed(0)
    first = F.normalize(torch.randn(6, 64), dim=1)
    second = torch.cat([first[:3], first[3:] + 1e-5 * torch.randn(3, 64), torch.randn(4, 64)])
    exact = (first.double()[:, None] - second.double()).square().sum(2).sqrt()
    first.requires_grad_()
    found = euclidean(first, second)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), exact, rtol=1e-6, atol=0)
    assert (found.diagonal()[:3] == 0).all()
    found.sum().backward()
    apart = first.detach().double()[:, None] - second.double()
    slope = (apart / torch.where(exact > 0, exact, 1)[:, :, None]).sum(1)
    assert torch.allclose(first.grad.double(), slope, rtol=1e-5, atol=1e-5)
    assert torch.autograd.gradcheck(euclidean, (first.detach().double().requires_grad_(), second.double() + 0.1))


def test_discrepancy_and_diversity_of_what_is_the_same():
    image, _ = (F.normalize(each.detach(), dim=2) for each in drawn(4, 3, 8))
    assert set_discrepancy(image, image).item() == pytest.approx(0, abs=1e-9)
    same = image[:, :1].expand(-1, 3, -1)
    assert set_diversity(same).item() == pytest.approx(1)
    assert set_diversity(image[:, :1]).item() == 0  # a single instance has no pair


def test_soft_moe_is_its_formula():
    torch.manual_seed(0)
    moe, x = SoftMoE(5, 4, experts=3, slots=2).double(), torch.randn(1, 6, 5, dtype=torch.float64)
    score = x[0] @ moe.slot
    out = torch.zeros(6, 4, dtype=torch.float64)
    for slot in range(6):
        mixed = score[:, slot].softmax(0) @ x[0]
        answer = mixed @ moe.weight[slot // 2] + moe.bias[slot // 2, 0]
        out += score.softmax(1)[:, slot, None] * answer
    assert torch.allclose(moe(x)[0], out)


def test_filters_take_as_many_tokens_as_they_have_places():
    filters = TokenFilters(8, 4, instances=3, places=5, hidden=6, dropout=0.0)
    tokens, mask = torch.randn(2, 5, 8), torch.tensor([[True] * 3 + [False] * 2] * 2)
    assert torch.allclose(filters(tokens, mask), filters(tokens[:, :3]), atol=1e-6)
    with pytest.raises(UserError, match="6 tokens, and the filters 5 places"):
        filters(torch.randn(2, 6, 8))


@pytest.mark.parametrize("name", BUILD)
def test_padded_tokens_change_no_code(name):
    model, text = BUILD[name]().eval(), Toy().role("query")["text"]
    noisy = {**text, "tokens": torch.where(text["mask"][:, :, None], text["tokens"], 50.0)}
    assert torch.equal(model.encode("text", text), model.encode("text", noisy))


@pytest.mark.parametrize(("name", "weights"), [("dimch", DIMCHWeights), ("umoed", UMoEDWeights)])
def test_a_weight_of_zero_removes_the_term(name, weights):
    terms = set(vars(weights()))
    for term in terms:
        logged = fit(lambda term=term: BUILD[name](weights=weights(**{term: 0.0}))).trainer.callback_metrics
        assert {each for each in terms if f"train/{each}" not in logged} == {term}


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("wrong", [{"text_token_dim": 0}, {"space": "joint"}])
def test_features_that_do_not_fit_are_refused(name, wrong):
    with pytest.raises(UserError, match=r"tokens: set data|say space='projected'"):
        BUILD[name](**wrong)


def test_words_divide_the_code():
    with pytest.raises(UserError, match="a divisor of the 8 bits"):
        BUILD["umoed"](word_bits=3)
    assert BUILD["umoed"](word_bits=4).decoder.query.shape[0] == 2


def test_blocks_of_the_decoder_start_alike():
    first, second = BUILD["umoed"]().decoder.blocks
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
        assert one is not other


def test_a_similarity_may_exceed_1_by_what_is_documented():
    same = F.normalize(torch.ones(1, 4, 3), dim=2)
    assert smooth_chamfer(same, same, 16.0).item() == pytest.approx(1 + math.log(4) / 16)


def test_heads_that_do_not_divide_are_one_line():
    with pytest.raises(UserError, match="a token has 6 numbers and its attention 4 heads"):
        UMoED(bits=8, dim=6, heads=4, layers=1, space="projected")
