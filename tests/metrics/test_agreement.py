"""Independent libraries compute the same numbers, for every convention that they share."""

import numpy as np
import pytest
import torch
import torchmetrics.functional.retrieval as peer

from xmodal.metrics import (
    average_precision,
    cosine_ranking,
    curve_by_rank,
    hamming_ranking,
    hits_at,
    ndcg_at,
    precision_at,
    recall_at,
)

QUERIES = 20


@pytest.fixture
def sets(pairs):
    image, text, label = pairs(bits=12)
    return image[:QUERIES], text[QUERIES:], label[:QUERIES], label[QUERIES:]


def relevance(sets):
    return (sets[2] @ sets[3].T).long()


def hamming(sets):
    return ((sets[0] >= 0)[:, None] != (sets[1] >= 0)[None]).sum(2)


def cosine(sets):
    query, database = (torch.nn.functional.normalize(side) for side in sets[:2])
    return query @ database.T


def each(function, scores, target, **options):
    """A torchmetrics function query by query; its scores must be positive to count."""
    return [float(function(s.double() + 2, t, **options)) for s, t in zip(scores, target, strict=True)]


def test_torchmetrics_without_ties(sets):
    ranked, relevant = cosine_ranking(*sets), relevance(sets) > 0
    scores = cosine(sets)
    for top in (None, 5, 20):
        denominator = "R" if top is None else "hits"
        expected = each(peer.retrieval_average_precision, scores, relevant, top_k=top)
        np.testing.assert_allclose(average_precision(ranked, top, denominator), expected, atol=1e-6)
    for ours, theirs in ((precision_at, peer.retrieval_precision), (recall_at, peer.retrieval_recall)):
        np.testing.assert_allclose(ours(ranked, [10])[:, 0], each(theirs, scores, relevant, top_k=10), atol=1e-6)
    hit = each(peer.retrieval_hit_rate, scores, relevant, top_k=5)
    np.testing.assert_array_equal(hits_at(ranked, [5])[:, 0] > 0, np.array(hit) > 0)


def test_torchmetrics_precision_recall_curve(sets):
    metric = pytest.importorskip("torchmetrics.retrieval").RetrievalPrecisionRecallCurve(empty_target_action="neg")
    relevant = relevance(sets) > 0
    kept = relevant.any(1)
    indexes = torch.arange(QUERIES)[:, None].expand_as(relevant)
    metric.update((cosine(sets) + 2)[kept].flatten(), relevant[kept].flatten(), indexes=indexes[kept].flatten())
    precision, recall, _ = metric.compute()
    parts = sets[0][kept], sets[1], sets[2][kept], sets[3]
    curve = curve_by_rank(cosine_ranking(*parts))
    np.testing.assert_allclose(curve.precision, precision, atol=1e-5)
    np.testing.assert_allclose(curve.recall, recall, atol=1e-5)


def test_scikit_learn_group_end_and_tie_aware_ndcg(sets):
    sklearn = pytest.importorskip("sklearn.metrics")
    ranked, graded = hamming_ranking(*sets), hamming_ranking(*sets, graded=True)
    near, grade = -hamming(sets).numpy(), relevance(sets).numpy()
    kept = (grade > 0).any(1)
    expected = [sklearn.average_precision_score(g > 0, n) for g, n in zip(grade[kept], near[kept], strict=True)]
    np.testing.assert_allclose(average_precision(ranked, ties="group-end")[kept], expected, atol=1e-14)
    for top in (1, 7, 50, near.shape[1]):
        expected = [sklearn.ndcg_score([2.0**g - 1], [n], k=top) for g, n in zip(grade[kept], near[kept], strict=True)]
        np.testing.assert_allclose(ndcg_at(graded, [top])[kept, 0], expected, atol=1e-13)


def test_pytorch_metric_learning_divides_by_all_relevant(sets):
    calculator = pytest.importorskip("pytorch_metric_learning.utils.accuracy_calculator")
    knn = pytest.importorskip("pytorch_metric_learning.utils.inference")
    from pytorch_metric_learning.distances import CosineSimilarity

    classes, other = sets[2].argmax(1), sets[3].argmax(1)
    one_hot = torch.nn.functional.one_hot
    parts = sets[0], sets[1], one_hot(classes, 12), one_hot(other, 12)
    known = (parts[2] @ parts[3].T).any(1)
    for top in (None, 10):
        theirs = calculator.AccuracyCalculator(
            include=("mean_average_precision",),
            k=top or len(other),
            device=torch.device("cpu"),
            knn_func=knn.CustomKNN(CosineSimilarity()),
            return_per_class=False,
        ).get_accuracy(parts[0][known], classes[known], parts[1], other)["mean_average_precision"]
        ours = average_precision(cosine_ranking(*parts), top, "R")[known].mean()
        assert ours == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("ties", ["expected", "stable"])
def test_trec_eval(sets, ties):
    """Without ties as they are; with ties in the order of the database, which the scores handed over spell out."""
    trec = pytest.importorskip("pytrec_eval")
    ranked = (cosine_ranking if ties == "expected" else hamming_ranking)(*sets, ties=ties)
    near = -cosine(sets) if ties == "expected" else hamming(sets)
    place = near.argsort(dim=1, stable=True).argsort(dim=1)
    grade = relevance(sets)
    names = [[f"{prefix}{i}" for i in range(count)] for prefix, count in zip("qd", grade.shape, strict=True)]
    truth = {
        q: {d: int(g > 0) for d, g in zip(names[1], row, strict=True)} for q, row in zip(names[0], grade, strict=True)
    }
    run = {
        q: {d: -float(p) for d, p in zip(names[1], row, strict=True)} for q, row in zip(names[0], place, strict=True)
    }
    theirs = trec.RelevanceEvaluator(truth, {"map", "map_cut.10", "P.10", "recall.10", "iprec_at_recall"}).evaluate(run)
    ours = {
        "map": average_precision(ranked),
        "map_cut_10": average_precision(ranked, 10, "R"),
        "P_10": precision_at(ranked, [10])[:, 0],
        "recall_10": recall_at(ranked, [10])[:, 0],
    }
    for name, values in ours.items():
        np.testing.assert_allclose(values, [theirs[q][name] for q in names[0]], atol=1e-12, err_msg=name)
