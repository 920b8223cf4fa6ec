import numpy as np
import pytest
import torch
from torch import nn

from tests.losses.test_pairwise import golden
from xmodal.errors import UserError
from xmodal.losses import fused_label_prediction, graph_codes, sign
from xmodal.methods import DMSF
from xmodal.methods.dmsf import DMSFWeights

N, C, BITS = 12, 4, 8
FUSIONS = ("none", "concat", "attention", "labelnet")


class OneProcess:
    """What a module asks of a trainer."""

    world_size, max_epochs, current_epoch, training = 1, 4, 0, True

    class strategy:
        @staticmethod
        def reduce(tensor, reduce_op):
            return tensor


def train_set(n=N, image=6, text=5):
    generator = torch.Generator().manual_seed(0)
    label = (torch.rand(n, C, generator=generator) < 0.4).float()
    label[label.sum(1) == 0, 0] = 1
    return {
        "image": {"pooled": torch.randn(n, image, generator=generator)},
        "text": {"pooled": torch.rand(n, text, generator=generator)},
        "label": label,
        "index": torch.arange(n) * 3 + 1,  # positions in a dataset with other pairs between
    }


def take(batch, rows):
    sides = {side: {"pooled": batch[side]["pooled"][rows]} for side in ("image", "text")}
    return {**sides, "label": batch["label"][rows], "index": batch["index"][rows]}


def build(monkeypatch, dtype=torch.float64, **arguments):
    torch.manual_seed(0)
    sizes = {
        "image_dim": 6,
        "text_dim": 5,
        "num_labels": C,
        "num_train": N,
        "bits": BITS,
        "text_hidden": 16,
        "features": 10,
    }
    model = DMSF(**sizes | arguments).to(dtype)
    batch = {
        key: {"pooled": value["pooled"].to(dtype)}
        if isinstance(value, dict)
        else value.to(dtype)
        if key == "label"
        else value
        for key, value in train_set().items()
    }
    model.logged = {}
    monkeypatch.setattr(DMSF, "trainer", OneProcess(), raising=False)
    monkeypatch.setattr(model, "train_set", lambda: batch)

    def note(values):
        model.logged.update({f"train/{name}": value.detach() for name, value in values.items()})

    monkeypatch.setattr(model, "note", note)
    monkeypatch.setattr(model, "log", lambda name, value, **_: model.logged.update({name: value}))
    model.on_fit_start()
    model.on_train_epoch_start()
    return model, batch


def softplus(x):
    return np.logaddexp(0, x)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_loss_is_the_specified_formula(monkeypatch, fusion):
    """Every term in float64 numpy, from the definition of methods/dmsf: pairs against the whole tables."""
    weights = DMSFWeights(
        inter=1.1, intra=0.7, label=0.6, fused_label=0.5, quantization=0.4, graph=0.3, balance=0.2, label_net=0.9
    )
    model, whole = build(monkeypatch, fusion=fusion, weights=weights)
    rows = torch.tensor([7, 2, 9])
    before = model.tables.table("image").clone()
    loss = model.training_step(take(whole, rows), 0)
    f, g, b = (t.numpy() for t in (model.tables.table("image"), model.tables.table("text"), model.code))
    h, t, label = f[rows], g[rows], whole["label"].numpy()
    similar = (label[rows] @ label.T > 0).astype(float)

    def nll(codes, table):
        theta = codes @ table.T / 2
        return (softplus(theta) - similar * theta).mean()

    expected = {
        "inter": nll(h, g) + nll(t, f),
        "intra": nll(h, f) + nll(t, g),
        "quantization": (np.square(b[rows] - h).sum() + np.square(b[rows] - t).sum()) / (3 * N),
        "balance": (np.square(f.sum(0)).sum() + np.square(g.sum(0)).sum()) / (3 * N),
    }
    assert not np.allclose(before[rows], h)  # the step wrote its outputs first
    with torch.no_grad():
        logits = [model._predict(side, take(whole, rows)[side])[1].numpy() for side in ("image", "text")]
    own = label[rows]
    expected["label"] = sum((softplus(x) - own * x).mean() for x in logits)
    p = sum(1 / (1 + np.exp(-x)) for x in logits) / 2
    expected["fused_label"] = -(own * np.log(p) + (1 - own) * np.log(1 - p)).mean()
    if fusion == "labelnet":
        guide = model.tables.table("guide").numpy()
        with torch.no_grad():
            x = model.label_net_head(model.label_net(whole["label"][rows])).numpy()
        expected["label_net"] = sum(nll(codes, guide) for codes in (h, t, guide[rows])) + (softplus(x) - own * x).mean()
    for name, value in expected.items():
        assert float(model.logged[f"train/{name}"]) == pytest.approx(value, rel=1e-9), name
    total = sum(getattr(weights, name) * value for name, value in expected.items())
    assert float(loss.detach()) == pytest.approx(total, rel=1e-9)


def test_one_backward_has_the_gradients_of_the_alternation(monkeypatch):
    """Image step with the text side fixed, then text step with the image side fixed: the parameters are disjoint."""
    model, whole = build(monkeypatch)
    batch = take(whole, torch.tensor([0, 3, 5]))
    parameters = dict(model.named_parameters())
    joint = dict(zip(parameters, torch.autograd.grad(model.training_step(batch, 0), parameters.values()), strict=True))
    for own, other in (("image", "text"), ("text", "image")):
        for name, parameter in parameters.items():
            parameter.requires_grad_(f"{other}." not in name)
        mine = {name: parameter for name, parameter in parameters.items() if parameter.requires_grad}
        assert all(f"{own}." in name for name in mine)
        alone = torch.autograd.grad(model.training_step(batch, 0), mine.values())
        for name, gradient in zip(mine, alone, strict=True):
            assert torch.allclose(gradient, joint[name], rtol=1e-12, atol=1e-14), name


def test_fused_label_prediction_is_stable_and_differentiable():
    a, b = (golden(s, 3, C).requires_grad_() for s in (0.1, 0.9))
    label = torch.eye(3, C, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x, y: fused_label_prediction(x, y, label), (a, b))
    far = torch.full((1, 1), -500.0, requires_grad=True)
    loss = fused_label_prediction(far, far, torch.ones(1, 1))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(500)
    assert torch.isfinite(far.grad).all()


TOTAL = golden(0.1, N, BITS) + golden(0.9, N, BITS)


def fill(model):
    for side, start in (("image", 0.1), ("text", 0.9)):
        model.tables.store(side, torch.arange(N), golden(start, N, BITS))


def test_codes_are_those_of_the_graph(monkeypatch):
    model, _ = build(monkeypatch, weights=DMSFWeights(graph=1.0, quantization=2.0))
    fill(model)
    model.on_train_epoch_start()
    assert torch.equal(model.code, graph_codes(model.factor, TOTAL))
    assert 0 < model.logged["train/unique_codes"] <= 1
    plain, _ = build(monkeypatch, weights=DMSFWeights(graph=0.0))
    fill(plain)
    plain.on_train_epoch_start()
    assert torch.equal(plain.code, sign(TOTAL))
    assert plain.factor.numel() == 0  # no graph is built


def test_semantics_are_class_means_of_both_modalities(monkeypatch):
    model, whole = build(monkeypatch)
    assert not model.semantics.any()
    with torch.no_grad():
        features = sum(model._predict(side, whole[side])[0] for side in ("image", "text"))
        for start in (0, 5, 10):
            model.training_step(take(whole, torch.arange(start, min(start + 5, N))), 0)
    model.on_train_epoch_start()
    expected = nn.functional.normalize(whole["label"].T @ features)
    assert torch.allclose(model.semantics, expected)
    assert not model.semantic_sum.any()


TERMS = ("inter", "intra", "label", "fused_label", "quantization", "balance")


@pytest.mark.parametrize("name", TERMS)
def test_a_weight_of_zero_removes_the_term(monkeypatch, name):
    weights = DMSFWeights(**dict.fromkeys(TERMS, 1.0) | {name: 0.0, "graph": 0.0})
    model, whole = build(monkeypatch, weights=weights)
    model.training_step(take(whole, torch.arange(4)), 0)
    assert f"train/{name}" not in model.logged
    assert {f"train/{other}" for other in TERMS if other != name} <= model.logged.keys()


def test_without_label_terms_and_fusion_no_label_head_is_built(monkeypatch):
    weights = DMSFWeights(label=0.0, fused_label=0.0)
    model, whole = build(monkeypatch, fusion="none", weights=weights)
    assert not model.label_head
    loss = model.training_step(take(whole, torch.arange(4)), 0)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())  # plain ddp would run
    assert build(monkeypatch, fusion="concat", weights=weights)[0].label_head


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("text_net", ["mlp", "multiscale"])
def test_every_parameter_learns(monkeypatch, fusion, text_net):
    model, whole = build(monkeypatch, fusion=fusion, text_net=text_net)
    model.training_step(take(whole, torch.arange(6)), 0).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name


def test_graph_without_quantisation_is_refused():
    with pytest.raises(UserError, match="acts through the quantisation"):
        DMSF(weights=DMSFWeights(quantization=0.0, graph=0.1))


def test_learning_rates_belong_to_the_networks(monkeypatch):
    model, _ = build(monkeypatch, image_lr=0.5, text_lr=0.25)
    (optimizer,), (schedule,) = model.configure_optimizers()
    image, text = optimizer.param_groups
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(parameter)].split(".")[1] for parameter in image["params"]} == {"image"}
    assert {names[id(parameter)].split(".")[1] for parameter in text["params"]} == {"text"}
    assert (image["lr"], text["lr"]) == (0.5, 0.25)
    optimizer.step()
    for _ in range(OneProcess.max_epochs):
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.005, 0.0025])
