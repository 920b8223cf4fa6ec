"""What is reported: every number has a key, and every key one meaning, whatever the data or the settings."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from torch import Tensor

from xmodal.batch import Side
from xmodal.metrics import curves
from xmodal.metrics.criterion import Criterion
from xmodal.metrics.definitions import average_precision, hit_at, ndcg_at, precision_at, recall_at
from xmodal.metrics.rankers import Ranker
from xmodal.metrics.ranking import Floats, Ranking, random_ranking
from xmodal.relevance import Relevance

Detail = Literal["map", "full"]
Columns: TypeAlias = dict[str, Floats]

DIRECTIONS: dict[str, tuple[Side, Side]] = {
    "i2t": ("image", "text"),
    "t2i": ("text", "image"),
    "i2i": ("image", "image"),
    "t2t": ("text", "text"),
}
ACROSS, WITHIN = ("i2t", "t2i"), ("i2i", "t2t")


@dataclass(frozen=True)
class Cutoffs:
    """Where the rankings are cut.

    Args:
        map: T of mAP@T.
        precision: N of precision@N and recall@N.
        ndcg: N of NDCG@N.
        hit: K of R@K over a query's own counterparts.
        radius: Hamming radius of hash lookup.
    """

    map: tuple[int, ...] = (50, 5000)
    precision: tuple[int, ...] = (1, 10, 100, 1000)
    ndcg: tuple[int, ...] = (10, 100, 1000)
    hit: tuple[int, ...] = (1, 5, 10)
    radius: int = 2


_WORDS = {
    r"map": "mAP over the whole database, relevant = shares a label (data.relevance finest: is of the same finest "
    "class; group: of the same picture); expectation over the order of equally distant items; queries without a "
    "relevant item count 0",
    r"map\[skip-empty\]": "map, leaving out queries without a relevant item",
    r"map\[stable\]": "map with ties in the order of the database (dataset index)",
    r"map\[pessimistic\]": "map under the worst order of equally distant items",
    r"map\[optimistic\]": "map under the best order of equally distant items",
    r"map\[group-end\]": "map with the precision taken at the end of each group of ties (scikit-learn)",
    r"map\[layer(\d+)\]": "map with relevant = same class of layer {0} (1 is the coarsest)",
    r"mapp": "MAPP: map minus the mean AP of the wrong items, those that share no layer (TORCH's mAP_penalty)",
    r"map@(\d+)\[R\]": "mAP of the first {0} items, divided by all relevant items; tie-aware, empty queries 0",
    r"map@(\d+)\[min\]": "mAP of the first {0} items, divided by min(relevant, {0}); tie-aware, empty queries 0",
    r"map@(\d+)\[hits\]": "mAP of the first {0} items, divided by the relevant ones among them; tie-aware, empty "
    "queries 0",
    r"map@(\d+)\[hit-truncated\]": "mean precision at the first min({0}, relevant) relevant items wherever they rank "
    "(DCMH calc_map_k); tie-aware, empty queries 0",
    r"precision@(\d+)": "expected share of relevant items among the first {0}",
    r"recall@(\d+)": "expected share of all relevant items that are among the first {0}; empty queries 0",
    r"ndcg@(\d+)": "NDCG of the first {0}, gain 2^g - 1 with g = labels (or layers) shared; tie-aware, empty queries 0",
    r"precision_radius(\d+)": "precision of the Hamming ball of radius {0}, mean over queries; an empty ball counts 0",
    r"recall_radius(\d+)": "recall of the Hamming ball of radius {0}, mean over queries; empty queries 0",
    r"empty_radius(\d+)": "share of queries whose Hamming ball of radius {0} is empty",
    r"hit@(\d+)": "R@{0}: probability that one of the query's own counterparts is among the first {0}; tie-aware",
    r"random": "map of a random order of the database, in expectation: the floor under map",
    r"empty_queries": "number of queries without a relevant item in the database",
}


def describe(key: str) -> str:
    """The convention behind a key of the metrics, in words.

    Raises:
        ValueError: not a key of the metrics.

    Examples:
        >>> describe("precision@100_i2t")
        'expected share of relevant items among the first 100 (image queries, text database)'
        >>> describe("random_t2i").partition("(")[2]
        'text queries, image database; a picture that several captions share is one item)'
    """
    name, _, direction = key.rpartition("_")
    for pattern, words in _WORDS.items():
        match = re.fullmatch(pattern, name)
        if match and (direction in ACROSS or (direction in WITHIN and name == "map")):
            query, database = DIRECTIONS[direction]
            once = "; a picture that several captions share is one item" if database == "image" else ""
            apart = "; a query never finds itself" if query == database else ""
            return f"{words.format(*match.groups())} ({query} queries, {database} database{once}{apart})"
    raise ValueError(f"{key!r} is not a key of the retrieval metrics")


def criteria(query: Relevance, database: Relevance, detail: Detail) -> dict[str, Criterion]:
    """The notions of relevance to rank by, under the names that `query_values` knows; "map" needs one only."""
    own, other = query.layers, database.layers
    if own is None or other is None:
        finest = every = query.label, database.label
    else:
        finest, every = (own[:, -1:], other[:, -1:]), (own, other)
    found = {"main": Criterion(*finest)}
    if detail == "full":
        found["map[stable]"] = Criterion(*finest, stable=True)
        found["graded"] = Criterion(*every, graded=True)
        if query.hierarchy is not None and database.hierarchy is not None:
            found["wrong"] = Criterion(*every, reverse=True)
            layers = zip(query.hierarchy.T[:-1], database.hierarchy.T[:-1], strict=True)
            found |= {f"map[layer{k}]": Criterion(q[:, None], d[:, None]) for k, (q, d) in enumerate(layers, 1)}
    return found


def query_values(name: str, ranking: Ranking, detail: Detail, cutoffs: Cutoffs) -> Columns:
    """Values (Q,) of every query under one notion of relevance, by key without direction."""
    if name != "main":
        if name == "graded":
            gains = ndcg_at(ranking, cutoffs.ndcg)
            return {f"ndcg@{top}": gains[:, t] for t, top in enumerate(cutoffs.ndcg)}
        return {name: average_precision(ranking)}
    values = {"map": average_precision(ranking)}
    if detail == "map":
        return values
    values["empty_queries"] = (ranking.found == 0).astype(float)
    values["random"] = average_precision(random_ranking(ranking))
    for ties in ("pessimistic", "optimistic", "group-end"):
        values[f"map[{ties}]"] = average_precision(ranking, ties=ties)
    for top in cutoffs.map:
        for denominator in ("R", "min", "hits", "hit-truncated"):
            values[f"map@{top}[{denominator}]"] = average_precision(ranking, top, denominator)
    precision, recall = precision_at(ranking, cutoffs.precision), recall_at(ranking, cutoffs.precision)
    for t, top in enumerate(cutoffs.precision):
        values[f"precision@{top}"], values[f"recall@{top}"] = precision[:, t], recall[:, t]
    if ranking.levels is not None:
        radius = min(cutoffs.radius, ranking.levels.shape[2] - 1)
        inside = [part[:, radius] for part in curves.precision_recall_within(ranking)]
        values[f"precision_radius{cutoffs.radius}"], values[f"recall_radius{cutoffs.radius}"] = inside
        empty = ranking.levels[0, :, : radius + 1].sum(1) == 0
        values[f"empty_radius{cutoffs.radius}"] = empty.astype(float)
    return values


def query_sums(ranking: Ranking) -> Columns:
    """What the curves need, summed over the queries."""
    sums = {"rank": curves.rank_sums(ranking), "interpolated": curves.interpolated_sums(ranking)}
    if ranking.levels is not None:
        sums["radius"] = curves.radius_sums(ranking)
    return sums


def finish_curves(sums: Mapping[str, Floats]) -> dict[str, curves.Curve]:
    """Curves by name from `query_sums` over all queries."""
    finished = {
        "pr_rank": curves.rank_curve(sums["rank"]),
        "pr_11point": curves.interpolated_mean(sums["interpolated"]),
    }
    if "radius" in sums:
        finished["pr_radius[micro]"] = curves.radius_curve(sums["radius"], "micro")
        finished["pr_radius[macro]"] = curves.radius_curve(sums["radius"], "macro")
    return finished


def finish_values(values: Mapping[str, Floats]) -> dict[str, float]:
    """Scalars by key without direction, from the values of all queries."""
    means = {name: float(column.mean()) for name, column in values.items()}
    if "empty_queries" in values:
        empty = values["empty_queries"]
        means["empty_queries"] = float(empty.sum())
        means["map[skip-empty]"] = float(values["map"].sum() / max(len(empty) - empty.sum(), 1))
    if "wrong" in means:
        means["mapp"] = means["map"] - means.pop("wrong")
    return means


def evaluate_queries(
    ranker: Ranker,
    shard: slice,
    criteria: Mapping[str, Criterion],
    groups: tuple[Tensor, Tensor] | None,
    detail: Detail,
    cutoffs: Cutoffs,
) -> tuple[list[Columns], list[Columns]]:
    """Rank a shard of the queries: for each direction, the values of each query, and the sums for the curves."""
    parts: list[dict[str, list[Floats]]] = [defaultdict(list) for _ in ranker.query]
    sums: list[Columns] = [{} for _ in ranker.query]
    for block, chosen in ranker.passes(criteria):
        for rows in _blocks(shard, block):
            for d, rankings in ranker.rank(rows, chosen):
                for name, ranking in rankings.items():
                    for key, column in query_values(name, ranking, detail, cutoffs).items():
                        parts[d][key].append(column)
                if detail == "full" and "main" in rankings:
                    for key, part in query_sums(rankings["main"]).items():
                        sums[d][key] = sums[d].get(key, 0) + part
    if groups is not None and detail == "full":
        for rows in _blocks(shard, ranker.dense_block):
            for d, found in enumerate(ranker.counterparts(rows, groups)):
                hits = hit_at(*found, cutoffs.hit)
                for t, top in enumerate(cutoffs.hit):
                    parts[d][f"hit@{top}"].append(hits[:, t])
    values = [{key: np.concatenate(columns) for key, columns in part.items()} for part in parts]
    return values, sums


def _blocks(shard: slice, block: int) -> list[slice]:
    """The shard in blocks; an empty shard is one empty block, so that every process finds the same keys."""
    starts = range(shard.start, shard.stop, block) or [shard.start]
    return [slice(start, min(start + block, shard.stop)) for start in starts]
