"""R@K over pictures with several captions."""

import numpy as np
import pytest
import torch

from xmodal.metrics import retrieval_metrics


def test_a_picture_that_captions_share_counts_once_among_the_images():
    """20 pictures with 5 captions each, against R@K over 20 pictures and 100 captions computed plainly."""
    generator = torch.Generator().manual_seed(0)
    pictures = torch.randn(20, 16, generator=generator, dtype=torch.float64)
    group = torch.arange(100) // 5
    image = pictures[group]
    text = image + 2.5 * torch.randn(100, 16, generator=generator, dtype=torch.float64)
    metric = retrieval_metrics("real")
    for split in ("query", "database"):
        metric.update(
            split=split, image=image, text=text, label=torch.ones(100, 1), index=torch.arange(100), group=group
        )
    result = metric.compute()
    unit = [torch.nn.functional.normalize(side).numpy() for side in (pictures, text)]
    scores = unit[0] @ unit[1].T  # (20, 100)
    for top in (1, 5, 10):
        best = np.argsort(-scores, 1)[:, :top] // 5
        assert float(result[f"hit@{top}_i2t"]) == (best == np.arange(20)[:, None]).any(1).mean()
        best = np.argsort(-scores.T, 1)[:, :top]
        assert float(result[f"hit@{top}_t2i"]) == (best == np.arange(100)[:, None] // 5).any(1).mean()
    assert 0.1 < float(result["hit@1_t2i"]) < float(result["hit@10_t2i"]) < 1


def test_relevance_by_picture_through_a_layer_of_many_classes():
    group = torch.arange(12) // 3 * 100_000  # ids need not be small
    code = torch.sign(torch.randn(12, 8, generator=torch.Generator().manual_seed(1)))
    metric = retrieval_metrics("binary", detail="map")
    for split in ("query", "database"):
        metric.update(
            split=split,
            image=code,
            text=code,
            label=torch.ones(12, 1),
            index=torch.arange(12),
            hierarchy=group[:, None],
        )
    assert 0.2 < float(metric.compute()["map_i2t"]) < 1


def plain(codes, found, relevant, itself):
    """AP of each query by brute force: stable where nothing ties, and without the query itself."""
    values = []
    for query, code in enumerate(codes):
        items = [item for item in range(len(found)) if not itself[query, item]]
        order = sorted(items, key=lambda item: -float(code @ found[item]))
        hits = np.array([bool(relevant[query, item]) for item in order])
        precision = hits.cumsum() / np.arange(1, len(hits) + 1)
        values.append((precision * hits).sum() / max(hits.sum(), 1))
    return np.array(values)


@pytest.mark.parametrize("same", [True, False])
def test_pictures_are_items_once_and_a_query_never_finds_itself(same):
    """All four directions over pictures with 1 to 5 captions against brute force."""
    generator = torch.Generator().manual_seed(3)
    group = torch.arange(12).repeat_interleave(torch.arange(12) % 5 + 1)
    image = torch.randn(12, 8, generator=generator)[group]
    text = image + torch.randn(len(group), 8, generator=generator)
    classes = group % 4
    index = torch.arange(len(group))
    parts = {"query": index if same else index[group < 4], "database": index if same else index[group >= 4]}
    metric = retrieval_metrics("real")
    for split, rows in parts.items():
        columns = {"image": image, "text": text, "label": classes, "group": group}
        metric.update(split=split, index=rows, **{name: column[rows] for name, column in columns.items()})
    result = metric.compute()
    asked, found = parts["query"], parts["database"]
    unit = {"image": torch.nn.functional.normalize(image), "text": torch.nn.functional.normalize(text)}
    first = torch.cat([torch.tensor([True]), group[1:] != group[:-1]])
    for direction, (one, other) in {
        "i2t": ("image", "text"),
        "t2i": ("text", "image"),
        "i2i": ("image", "image"),
        "t2t": ("text", "text"),
    }.items():
        queries = asked[first[asked]] if direction == "i2i" else asked
        items = found[first[found]] if other == "image" else found
        itself = queries[:, None] == items if one == other else torch.zeros(len(queries), len(items))
        values = plain(unit[one][queries], unit[other][items], classes[queries, None] == classes[items], itself)
        np.testing.assert_allclose(metric["retrieval"].average_precisions[direction], values, atol=1e-12)
        assert float(result[f"map_{direction}"]) == pytest.approx(values.mean(), abs=1e-12)


@pytest.mark.parametrize("kind", ["binary", "real"])
def test_codes_and_embeddings_leave_the_query_out_alike(kind):
    """The same pairs as codes and as embeddings, with ties: the two rankers agree."""
    code = torch.randint(0, 2, (40, 4), generator=torch.Generator().manual_seed(0)).float() * 2 - 1
    label = (torch.rand(40, 5, generator=torch.Generator().manual_seed(1)) < 0.4).float()
    found = []
    for each in (kind, "binary"):
        metric = retrieval_metrics(each)
        for split in ("query", "database"):
            metric.update(split=split, image=code, text=-code.flip(1), label=label, index=torch.arange(40))
        found.append({key: float(value) for key, value in metric.compute().items() if key in ("map_i2i", "map_t2t")})
    assert found[0] == pytest.approx(found[1], abs=1e-12)
    assert len(found[0]) == 2


def test_class_numbers_are_compared_as_what_they_are():
    """Class numbers give what their one-hot labels give, in memory for 20,000 of them."""
    classes = torch.arange(60) % 7
    outputs = torch.randn(60, 16, generator=torch.Generator().manual_seed(0))
    for kind in ("binary", "real"):
        results = []
        for label in (classes, torch.nn.functional.one_hot(classes)):
            metric = retrieval_metrics(kind)
            for split, rows in (("query", torch.arange(20)), ("database", torch.arange(20, 60))):
                metric.update(split=split, image=outputs[rows], text=outputs[rows], label=label[rows], index=rows)
            results.append(metric.compute())
        assert results[0] == results[1]
    many = torch.arange(20_000)
    code = torch.randn(20_000, 8, generator=torch.Generator().manual_seed(0))
    metric = retrieval_metrics("binary", detail="map")
    metric.update("query", code[:50], code[:50], many[:50], many[:50])
    metric.update("database", code, code, many, many)
    assert 0 < float(metric.compute()["map_i2t"]) < 1
    assert sum(part.nbytes for part in metric["retrieval"].database_label) == 160_000


def test_long_codes_and_tiny_embeddings_are_exact():
    """Distances above 16 bits do not wrap, and lengths that float32 squares cannot hold do not matter."""
    rows = 131_072
    query, far = torch.ones(1, rows), torch.ones(3, rows)
    far[0, :70_000], far[1, :3], far[2] = -1, -1, -1
    label = torch.tensor([[1.0], [0.0], [0.0]])
    metric = retrieval_metrics("binary", detail="map")
    metric.update("query", query, query, torch.ones(1, 1), torch.tensor([9]))
    metric.update("database", far, far, label, torch.arange(3))
    assert float(metric.compute()["map_i2t"]) == 0.5
    outputs = torch.randn(30, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    label = torch.arange(30) % 3
    values = []
    for scale in (1.0, 1e-25, 1e-200, 1e200):
        scales = torch.ones(30, 1, dtype=torch.float64)
        scales[::2] = scale
        metric = retrieval_metrics("real", detail="map")
        for split, part in (("query", slice(0, 10)), ("database", slice(10, 30))):
            part_of = (outputs * scales)[part]
            metric.update(split=split, image=part_of, text=part_of, label=label[part], index=torch.arange(30)[part])
        values.append(float(metric.compute()["map_i2t"]))
    assert values == pytest.approx([values[0]] * 4, abs=1e-9)
