"""What only one real-valued method does: prototypes, the check on the batch, layers, and the second stage."""

import pytest
import torch
import torch.nn.functional as F
from lightning import Callback

from tests.methods.test_every_method import outputs, pytestmark  # noqa: F401 - the warnings that are no errors
from tests.methods.toy import Toy, build
from tests.methods.training import train
from xmodal.errors import UserError
from xmodal.losses import label_similarity
from xmodal.methods import AttentionAdversarial, HierarchicalAdversarial
from xmodal.methods.alscor import ALSCORWeights
from xmodal.methods.attention_adversarial import AttentionAdversarialWeights
from xmodal.methods.dagan import DAGANWeights
from xmodal.methods.reranking import Encoded, check_size, reranked_metrics


@pytest.mark.parametrize("tokens", [True, False])
def test_prototypes_are_those_of_the_training_set(tokens, tmp_path):
    data = Toy(tokens=tokens)
    model = build("dagan", data)
    train(model, data, tmp_path, 1, limit_train_batches=0)
    pairs = data.role("train")
    model.eval()
    with torch.no_grad():
        model.trainer.datamodule = data
        model.on_train_epoch_start()
        model.eval()
        for side in ("image", "text"):
            u = model.read[side](pairs[side])
            expected = F.normalize(pairs["label"].T @ u)
            assert torch.allclose(getattr(model, f"{side}_prototypes"), expected, atol=1e-6)


@pytest.mark.parametrize("choices", [{}, {"intra_attention": "none"}, {"inter_attention": "none"}])
@pytest.mark.parametrize("tokens", [True, False])
def test_dagan_in_every_form(choices, tokens, tmp_path):
    data = Toy(tokens=tokens)
    model = build("dagan", data, weights=DAGANWeights(pair=1.0), generator_steps=2, **choices)
    train(model, data, tmp_path)
    assert hasattr(model, "image_prototypes") == ("inter_attention" not in choices)
    assert all(output.isfinite().all() for output in outputs(model, data.role("query")))


def test_the_critics_are_not_touched_by_the_generators_step(tmp_path):
    """With their own rate at 0 the critics stay where they were, while the rest moves."""
    data = Toy()
    model = build("dagan", data, critic_lr=0.0)
    before = {key: value.clone() for key, value in model.named_parameters()}
    train(model, data, tmp_path)
    moved = {key for key, value in model.named_parameters() if not torch.equal(value, before[key])}
    critics = {key for key in before if "critic" in key}
    assert critics
    assert not moved & critics
    assert {"common.weight", "decode.image.0.weight", "group.text.value.weight"} <= moved


def test_alscor_refuses_a_small_batch(tmp_path):
    data = Toy(batch_size=16)
    with pytest.raises(UserError, match=r"a batch of 16 pairs is too small to correlate 16 dimensions, 32 are needed"):
        train(build("alscor", data), data, tmp_path)


def test_alscor_without_correlation_takes_any_batch(tmp_path):
    data = Toy(batch_size=8)
    train(build("alscor", data, weights=ALSCORWeights(correlation=0.0)), data, tmp_path)


def test_the_projection_is_white_on_the_training_set(tmp_path):
    data = Toy()
    model = build("alscor", data, size=4, projection="linear")
    train(model, data, tmp_path, 2)
    image, text = outputs(model, data.role("train"))
    eye = torch.eye(4)
    assert torch.allclose(torch.cov(image.T), eye, atol=0.05)  # r = 1e-4 is left on the diagonal
    assert torch.allclose(torch.cov(text.T), eye, atol=0.05)


@pytest.mark.parametrize("structure", ["parallel", "chained"])
def test_similarity_is_the_weighted_sum_of_the_layers(structure):
    data = Toy()
    model = build("hierarchical_adversarial", data, structure=structure).eval()
    batch = data.role("query")
    image, text = (model._layers(side, batch[side]) for side in ("image", "text"))
    expected = sum(w * u @ v.T for w, u, v in zip((0.2, 0.8), image, text, strict=True))
    found = outputs(model, batch)
    assert torch.allclose(F.normalize(found[0]) @ F.normalize(found[1]).T, expected, atol=1e-6)


@pytest.mark.parametrize(
    "choices",
    [
        {"adversary": "alternating"},
        {"layers": "finest"},
        {"retrieval": "coarsest"},
        {"structure": "chained"},
        {"base": ()},
    ],
)
def test_hierarchical_in_every_form(choices, tmp_path):
    data = Toy()
    model = build("hierarchical_adversarial", data, **choices) if "base" not in choices else None
    if model is None:
        model = HierarchicalAdversarial(dim=16, hidden=16, base=(), image_dim=24, text_dim=16, layer_sizes=(2, 4))
    trainer = train(model, data, tmp_path)
    trainer.test(model, datamodule=data, verbose=False)
    assert {"test/mapp_i2t", "test/map[layer1]_t2i"} <= model.results.keys()


def test_a_dataset_without_layers_is_refused():
    with pytest.raises(UserError, match=r"data\.relevance=finest"):
        build("hierarchical_adversarial", Toy(relevance="label"))
    with pytest.raises(UserError, match="give 2 numbers above 0"):
        build("hierarchical_adversarial", Toy(), layer_weights=(1.0,))


@pytest.mark.parametrize(
    "choices",
    [
        {"cross": "joint"},
        {"cross": "none"},
        {"candidates": 2},
        {"candidates": 2, "loss": "triplet"},
        {"self_layers": 0, "negatives": "mean"},
        {"negatives": "relative", "rerank": 0},
    ],
)
@pytest.mark.parametrize("tokens", [True, False])
def test_attention_in_every_form(choices, tokens, tmp_path):
    data = Toy(tokens=tokens)
    model = build("attention_adversarial", data, **choices)
    trainer = train(model, data, tmp_path)
    trainer.test(model, datamodule=data, verbose=False)
    assert ("test/reranked_map_i2t" in model.results) == (choices.get("cross") != "none")


def test_impossible_heads_are_refused():
    with pytest.raises(UserError, match="dim is 10 and heads 4"):
        AttentionAdversarial(dim=10, heads=4)


class Norms(Callback):
    """The norm of all gradients that an optimizer steps with."""

    def __init__(self):
        self.found = []

    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        self.before = torch.nn.utils.get_total_norm([each.grad for each in pl_module.parameters()])

    def on_train_batch_end(self, trainer, pl_module, *_):
        clipped = torch.nn.utils.get_total_norm([each.grad for each in pl_module.parameters()])
        self.found.append((float(self.before), float(clipped)))


@pytest.mark.parametrize(("asked", "limit"), [(None, 2.0), (0.5, 0.5)])
def test_gradients_are_clipped_at_two(asked, limit, tmp_path):
    data, norms = Toy(batch_size=8), Norms()
    weights = AttentionAdversarialWeights(metric=50.0)
    train(
        build("attention_adversarial", data, weights=weights),
        data,
        tmp_path,
        callbacks=[norms],
        gradient_clip_val=asked,
    )
    assert max(before for before, _ in norms.found) > 2
    for before, clipped in norms.found:
        assert clipped == pytest.approx(min(before, limit), rel=1e-4)


def test_a_second_stage_that_does_not_fit_is_refused_before_training(tmp_path, monkeypatch):
    data = Toy()
    sizes = data.describe() | {"split_sizes": {"query": 2_000, "database": 193_000}}
    monkeypatch.setattr(data, "describe", lambda: sizes)
    monkeypatch.setattr("os.sysconf", lambda name: 2**18)  # 64 GiB
    with pytest.raises(UserError, match=r"re-ranking 2,000 queries against 193,000 items takes 841 GiB .* has 64"):
        train(build("attention_adversarial", data), data, tmp_path)
    model = build("attention_adversarial", data, cross="none")
    train(model, data, tmp_path)


def encoded(seed, rows):
    generator = torch.Generator().manual_seed(seed)
    embedding = F.normalize(torch.randn(rows, 5, generator=generator))
    return Encoded(embedding, embedding[:, None], torch.ones(rows, 1, dtype=torch.bool))


def test_reranking_against_a_sort():
    """The first k by cosine, re-ordered by the score, then the rest by cosine."""
    label, top = torch.eye(3).repeat(4, 1), 4
    batch = {"label": label, "index": torch.arange(12)}
    sides = {"image": encoded(0, 12), "text": encoded(1, 12)}

    def score(image, text):
        return -((image.embedding * text.embedding).sum(1) ** 2)

    values, words = reranked_metrics(score, (batch, sides), (batch, sides), top)
    cosine = sides["image"].embedding @ sides["text"].embedding.T
    for direction, matrix in (("i2t", cosine), ("t2i", cosine.T)):
        precisions = []
        for q, row in enumerate(matrix):
            order = row.argsort(descending=True).tolist()
            order = sorted(order[:top], key=lambda d: float(row[d]) ** 2) + order[top:]
            relevant = label_similarity(label[q : q + 1], label[order])[0]
            hits = relevant.cumsum(0)
            precisions.append(float((relevant * hits / torch.arange(1, 13)).sum() / relevant.sum()))
        assert values[f"reranked_map_{direction}"] == pytest.approx(sum(precisions) / 12, abs=1e-6)
    assert words["reranked_map_i2t"].startswith("first 4 hits re-ranked: mAP")


def test_a_second_stage_that_no_memory_holds_is_refused_before_the_training(tmp_path, monkeypatch):
    check_size(10, 90, 24 * 90 * 100)
    with pytest.raises(UserError, match="re-ranking 10 queries against 90 items takes 0 GiB and the device has 0"):
        check_size(10, 90, 24 * 90 * 100 - 1)
    data = Toy()
    sizes = {**data.describe()["split_sizes"], "database": 10**7}
    monkeypatch.setattr(data, "describe", lambda: {"split_sizes": sizes})
    with pytest.raises(UserError, match=r"against 10,000,000 items takes .* or set model\.cross=none"):
        train(build("attention_adversarial", data), data, tmp_path)
    train(build("attention_adversarial", data, cross="none"), data, tmp_path, limit_train_batches=1)


def test_recall_of_reranked_pictures_with_several_captions():
    """All hits re-ranked by the score, R@K over 4 pictures and 12 captions computed plainly."""
    group = torch.arange(12) // 3
    batch = {"label": torch.ones(12, 1), "index": torch.arange(12), "group": group}
    sides = {"image": encoded(0, 4).at(group), "text": encoded(1, 12)}

    def score(image, text):
        return (image.embedding * text.embedding.flip(1)).sum(1)

    values, _ = reranked_metrics(score, (batch, sides), (batch, sides), 0)
    scores = sides["image"].embedding[::3] @ sides["text"].embedding.flip(1).T  # (4, 12)
    for top in (1, 5):
        best = scores.argsort(1, descending=True)[:, :top] // 3
        assert values[f"reranked_hit@{top}_i2t"] == (best == torch.arange(4)[:, None]).any(1).float().mean()
    best = scores.T.argmax(1)
    assert values["reranked_hit@1_t2i"] == pytest.approx(float((best == group).float().mean()), abs=1e-6)


def test_reranked_pictures_with_several_captions_in_any_order():
    """A split of one's own may list its pairs in another order than the dataset."""
    group, found = torch.arange(12) // 3, []
    for order in (torch.arange(12), torch.arange(11, -1, -1)):
        batch = {"label": torch.eye(4)[group[order]], "index": order, "group": group[order]}
        sides = {"image": encoded(1, 4).at(group[order]), "text": encoded(2, 12).at(order)}
        found.append(
            reranked_metrics(lambda a, b: -(a.embedding * b.embedding).sum(1), (batch, sides), (batch, sides), 2)
        )
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)


def test_the_score_sees_both_sides_but_the_embedding_does_not():
    data = Toy()
    model = build("attention_adversarial", data).eval()
    with torch.no_grad():
        _, sides = model._encoded(data.role("query"))
        scores = model._score(sides["image"], sides["text"])
        swapped = model._score(sides["image"], sides["text"].at(torch.arange(31, -1, -1)))
    assert scores.abs().max() <= 1 + 1e-6
    assert not torch.allclose(scores, swapped)
