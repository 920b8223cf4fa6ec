"""The torchmetrics classes against a plain loop over queries, and their manners."""

import numpy as np
import pytest
import torch
from torchmetrics import MetricCollection

from xmodal.metrics import (
    CosineRetrieval,
    Cutoffs,
    HammingRetrieval,
    average_precision,
    describe,
    hamming_ranking,
    retrieval_metrics,
)

QUERIES = 20


def filled(metric, data, batch=None, order=None, **extra):
    """Update with the first 20 rows as queries and the others as database."""
    rows = torch.arange(len(data[2]))
    for split, part in (("query", rows[:QUERIES]), ("database", rows[QUERIES:])):
        part = part if order is None else part[torch.randperm(len(part), generator=order)]
        for some in part.split(batch or len(part)):
            image, text, label = (column[some] for column in data)
            others = {name: column[some] for name, column in extra.items()}
            metric.update(split=split, image=image, text=text, label=label, index=some, **others)
    return metric


def plain_map(query, database, query_label, database_label):
    """Mean AP by sorting each query's distances; the order of ties is averaged over many shuffles."""
    values, generator = [], np.random.default_rng(0)
    for code, label in zip(query, query_label, strict=True):
        near = -(database @ code)
        relevant = (database_label @ label > 0).numpy()
        draws = []
        for _ in range(400):
            shuffle = generator.permutation(len(near))
            hits = relevant[shuffle][np.argsort(near.numpy()[shuffle], kind="stable")]
            precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
            draws.append(precision[hits].mean() if hits.any() else 0.0)
        values.append(np.mean(draws))
    return np.mean(values)


def test_map_is_that_of_a_plain_loop(pairs):
    data = pairs()
    result = filled(retrieval_metrics("binary", "map"), data).compute()
    image, text, label = data
    image, text = (torch.where(side >= 0, 1.0, -1.0) for side in (image, text))
    parts = (slice(0, QUERIES), slice(QUERIES, None))
    for key, query, database in (("map_i2t", image, text), ("map_t2i", text, image)):
        expected = plain_map(query[parts[0]], database[parts[1]], label[parts[0]], label[parts[1]])
        assert float(result[key]) == pytest.approx(expected, abs=2e-3)


def test_cosine_map_is_that_of_a_plain_loop(pairs):
    image, text, label = data = pairs()
    result = filled(retrieval_metrics("real", "map"), data).compute()
    image, text = (torch.nn.functional.normalize(side) for side in (image, text))
    expected = plain_map(image[:QUERIES], text[QUERIES:], label[:QUERIES], label[QUERIES:])
    assert float(result["map_i2t"]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("kind", ["binary", "real"])
def test_batches_order_and_padding_change_nothing(pairs, kind):
    data = pairs()
    expected = filled(retrieval_metrics(kind), data).compute()
    metric = filled(retrieval_metrics(kind), data, batch=7, order=torch.Generator().manual_seed(1))
    again = torch.tensor([3, 4, 3])
    image, text, label = (column[again] for column in data)
    metric.update(split="query", image=image, text=text, label=label, index=again)
    assert metric.compute() == expected


def test_several_pairs_under_one_index_are_refused(pairs):
    """As where `index` counts within a batch: all batches but the first were taken for repeats, in silence."""
    metric = filled(retrieval_metrics("binary"), pairs())
    image, text, label = (column[:QUERIES] for column in pairs())
    metric.update(split="query", image=image, text=text, label=label.roll(1, 0), index=torch.arange(QUERIES))
    with pytest.raises(ValueError, match="has pairs of other labels"):
        metric.compute()


@pytest.mark.parametrize("kind", ["binary", "real"])
def test_every_key_has_its_convention(pairs, kind):
    data = pairs()
    hierarchy = torch.stack([torch.arange(len(data[2])) % 6 // 3, torch.arange(len(data[2])) % 6], 1)
    metric = filled(retrieval_metrics(kind), data, hierarchy=hierarchy, group=torch.arange(len(data[2])) % QUERIES)
    result = metric.compute()
    assert list(metric["retrieval"].conventions) == list(result)
    words = [describe(key) for key in result]
    assert len(set(words)) == len(words)
    assert all(value.dtype == torch.float64 and value.ndim == 0 and value.isfinite() for value in result.values())
    for name in ("map[stable]", "map@50[hits]", "precision@100", "ndcg@100", "random", "hit@5", "mapp", "map[layer1]"):
        assert {f"{name}_i2t", f"{name}_t2i"} <= set(result)
    assert ("precision_radius2_i2t" in result) == (kind == "binary")
    with pytest.raises(ValueError, match="'random_i2i' is not a key of the retrieval metrics"):
        describe("random_i2i")


def test_map_detail_is_the_same_number(pairs):
    data = pairs()
    full = filled(retrieval_metrics("binary"), data).compute()
    assert filled(retrieval_metrics("binary", "map"), data).compute() == {k: full[k] for k in ("map_i2t", "map_t2i")}


def test_query_set_that_is_the_database(pairs):
    """The DSCMR protocol: a query finds its own counterpart as well."""
    image, text, label = pairs(items=40)
    metric = retrieval_metrics("binary", "map")
    for split in ("query", "database"):
        metric.update(split=split, image=image, text=text, label=label, index=torch.arange(len(label)))
    expected = average_precision(hamming_ranking(image, text, label, label)).mean()
    assert float(metric.compute()["map_i2t"]) == pytest.approx(expected, abs=1e-15)


def test_hierarchical_relevance(pairs):
    image, text, _ = pairs()
    fine = torch.arange(len(image)) % 6
    label = torch.nn.functional.one_hot(fine, 6)
    data = (image, text, label)
    hierarchy = torch.stack([fine // 3, fine], 1)
    result = filled(retrieval_metrics("binary"), data, hierarchy=hierarchy).compute()
    assert result["map_i2t"] == filled(retrieval_metrics("binary"), data).compute()["map_i2t"]
    coarse = torch.nn.functional.one_hot(fine // 3, 2)
    layer = average_precision(hamming_ranking(image[:20], text[20:], coarse[:20], coarse[20:])).mean()
    wrong = average_precision(hamming_ranking(image[:20], text[20:], coarse[:20], 1 - coarse[20:])).mean()
    assert float(result["map[layer1]_i2t"]) == pytest.approx(layer, abs=1e-15)
    assert float(result["mapp_i2t"]) == pytest.approx(float(result["map_i2t"]) - wrong, abs=1e-15)


def test_hit_of_own_counterparts(pairs):
    """Several captions per image: the group says which database items are a query's own."""
    image, text, label = pairs(items=100)
    group = torch.arange(len(label)) % QUERIES
    result = filled(retrieval_metrics("real"), (image, text, label), group=group).compute()
    image, text = (torch.nn.functional.normalize(side) for side in (image, text))
    best = (image[:QUERIES] @ text[QUERIES:].T).argsort(1, descending=True)[:, :5]
    hits = (group[QUERIES:][best] == group[:QUERIES, None]).any(1).double().mean()
    assert float(result["hit@5_i2t"]) == pytest.approx(float(hits), abs=1e-15)


def test_empty_queries_count_zero_or_are_left_out(pairs):
    image, text, label = pairs()
    label[:QUERIES, 0], label[:5] = 1, 0
    label[-1, 0] = 1
    result = filled(retrieval_metrics("binary"), (image, text, label)).compute()
    assert result["empty_queries_i2t"] == 5
    assert float(result["map[skip-empty]_i2t"]) == pytest.approx(float(result["map_i2t"]) * 20 / 15, abs=1e-15)


def test_details_of_the_last_compute(pairs):
    data = pairs()
    metric = filled(retrieval_metrics("binary"), data)["retrieval"]
    with pytest.raises(RuntimeError, match=r"call compute\(\) first"):
        _ = metric.average_precisions
    result = metric.compute()
    assert metric.queries.tolist() == list(range(QUERIES))
    assert metric.average_precisions["t2i"].mean() == pytest.approx(float(result["map_t2i"]), abs=1e-15)
    assert len(metric.curves["pr_radius[micro]_i2t"].precision) == 17
    figure, ax = metric.plot()
    assert len(ax.get_lines()) == 4
    figure.clear()
    metric.reset()
    with pytest.raises(RuntimeError, match=r"call compute\(\) first"):
        _ = metric.curves


def test_plot_draws_on_the_given_axes_and_needs_curves(pairs):
    from matplotlib.figure import Figure

    ax = Figure().subplots()
    metric = filled(CosineRetrieval(), pairs())
    metric.compute()
    assert metric.plot(ax=ax)[1] is ax
    assert len(ax.get_lines()) == 2
    collection = filled(retrieval_metrics("binary"), pairs())
    assert collection.plot(ax=Figure().subplots())[0][1].get_ylabel() == "precision"
    small = filled(CosineRetrieval("map"), pairs())
    small.compute()
    with pytest.raises(ValueError, match='the curves need detail="full"'):
        small.plot()


def test_collection_can_be_cloned_reset_and_reused(pairs):
    data = pairs()
    metric = retrieval_metrics("binary", "map")
    assert isinstance(metric, MetricCollection)
    expected = filled(metric, data).compute()
    copy = metric.clone(prefix="val/")
    assert {key.removeprefix("val/"): value for key, value in copy.compute().items()} == expected
    metric.reset()
    assert filled(metric, pairs(bits=24)).compute() != expected
    metric.reset()
    assert filled(metric, data).compute() == expected


def test_inner_product_takes_embeddings_as_they_are():
    query, database = torch.tensor([[1.0, 0.0]]), torch.tensor([[2e9, 2e9], [1.9, 0.0]])  # the first is not scaled
    label, index = torch.eye(2), torch.arange(2)
    for similarity, expected in (("cosine", 1.0), ("inner", 0.5)):
        metric = CosineRetrieval("map", similarity=similarity)
        metric.update("query", query, query, label[1:], index[:1])
        metric.update("database", database, database, label, index)
        assert metric.compute()["map_i2t"] == expected


def test_cutoffs_are_part_of_the_keys(pairs):
    result = filled(HammingRetrieval(cutoffs=Cutoffs(map=(7,), precision=(3,), ndcg=(4,), radius=1)), pairs()).compute()
    assert {"map@7[R]_i2t", "precision@3_i2t", "recall@3_i2t", "ndcg@4_i2t", "empty_radius1_i2t"} <= set(result)


def test_wrong_input_is_refused(pairs):
    image, text, label = pairs()
    index = torch.arange(len(label))
    metric = HammingRetrieval()
    cases = [
        (("train", image, text, label, index), "split must be 'query' or 'database', got 'train'"),
        (("query", image, text[:, :3], label, index), "image and text differ in shape"),
        (("query", image, text, label[:3], index), r"a batch of 170 images came with \{'label': 3\} rows"),
        (("query", image, text, label, index.float()), "index must hold integers"),
        (("query", image * torch.inf, text, label, index), "image holds NaN or infinite values"),
        (("query", image, text, label, index, label), "hierarchy must hold class numbers"),
        (("query", image, text, label, index, None, label), "group must hold integers"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            metric.update(*arguments)
    metric.update("query", image, text, label, index)
    with pytest.raises(ValueError, match="outputs of 16 columns and 12 labels do not fit those of 8 columns"):
        metric.update("database", image[:, :8], text[:, :8], label, index)
    with pytest.raises(ValueError, match=r"no database pairs: call update\(split='database'"):
        metric.compute()
    metric.update("database", image, text, label, index, group=index)
    with pytest.raises(ValueError, match="group was given for one split only"):
        metric.compute()
    metric.update("database", image, text, label, index)
    with pytest.raises(
        ValueError, match=r"database has 340 pairs but \{'group': 170\}: give hierarchy and group always or never"
    ):
        metric.compute()


def test_wrong_settings_are_refused():
    with pytest.raises(ValueError, match="kind must be 'binary' or 'real', got 'ternary'"):
        retrieval_metrics("ternary")
    with pytest.raises(ValueError, match="detail must be one of map, full, got 'some'"):
        HammingRetrieval("some")
    with pytest.raises(ValueError, match="similarity must be 'cosine' or 'inner', got 'l2'"):
        CosineRetrieval(similarity="l2")


def test_members_of_a_collection_that_share_a_state_go_on_after_a_reset(pairs):
    """torchmetrics updates one member of a compute group, and gives the others its states."""
    data = pairs()
    metrics = {name: CosineRetrieval("map", similarity=name) for name in ("cosine", "inner")}
    expected = {name: float(filled(metric.clone(), data).compute()["map_i2t"]) for name, metric in metrics.items()}
    collection = MetricCollection(metrics)
    for _ in range(3):
        found = filled(collection, data, batch=7).compute()
        assert {name: float(found[f"{name}_map_i2t"]) for name in metrics} == expected
        collection.reset()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")  # a merged metric knows no update
@pytest.mark.parametrize("metric", [HammingRetrieval, CosineRetrieval])
def test_states_can_be_merged_and_loaded(pairs, metric):
    data = pairs()
    whole = filled(metric("map"), data)
    fresh, loaded = metric("map"), filled(metric("map"), pairs(seed=5))
    assert loaded.compute() != whole.compute()
    for each in (whole, loaded):
        each.persistent(True)
    fresh.merge_state(whole)
    loaded.load_state_dict(whole.state_dict())
    assert fresh.compute() == loaded.compute() == whole.compute()
    parts = metric("map"), metric("map")
    rows = torch.arange(len(data[2]))
    for part, split, some in zip(parts, ("query", "database"), rows.split([QUERIES, len(rows) - QUERIES]), strict=True):
        image, text, label = (column[some] for column in data)
        part.update(split=split, image=image, text=text, label=label, index=some)
    parts[0].update("database", image[:9], text[:9], label[:9], some[:9])
    assert parts[0].compute() != whole.compute()
    parts[0].merge_state(parts[1])
    assert parts[0].compute() == whole.compute()
    wider = metric("map")
    wider.update("query", image.repeat(1, 2), text.repeat(1, 2), label, some)
    whole.merge_state(wider)
    with pytest.raises(ValueError, match="do not fit"):
        whole.compute()


def test_a_state_made_another_type_is_refused(pairs):
    metric = filled(CosineRetrieval("map"), pairs()).set_dtype(torch.float64)
    with pytest.raises(ValueError, match="set no type"):
        metric.compute()
