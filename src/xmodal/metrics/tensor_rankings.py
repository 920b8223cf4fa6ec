"""Rankings of plain tensors, for use without the metric classes."""

from typing import Literal, get_args

from torch import Tensor
from torch.nn.functional import normalize

from xmodal.metrics.criterion import Criterion
from xmodal.metrics.packing import code_bits, embedding_rows, label_bits, pack_bits
from xmodal.metrics.rankers import CodeRanker, Ranker, ScoreRanker
from xmodal.metrics.ranking import Ranking, concatenated

Ties = Literal["expected", "stable"]


def hamming_ranking(
    query: Tensor,
    database: Tensor,
    query_label: Tensor,
    database_label: Tensor,
    ties: Ties = "expected",
    graded: bool = False,
) -> Ranking:
    """Rank a database by the Hamming distance of signed outputs or codes.

    The ranking of a whole query set is held at once; `HammingRetrieval` goes block by block.

    Args:
        query: (Q, bits) outputs or codes; sign(0) = +1.
        database: (N, bits).
        query_label: (Q, C) multi-hot labels.
        database_label: (N, C) multi-hot labels.
        ties: "expected" leaves the order of equally distant items open; "stable" is the order of the database.
        graded: whether relevance counts the shared labels (for `ndcg_at`) or only asks for one.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, labels that are not 0 or 1.
    """
    query, database = code_bits(query, "query"), code_bits(database, "database")
    criterion = _criterion(query, database, query_label, database_label, ties, graded)
    ranker = CodeRanker([pack_bits(query)], [pack_bits(database)], query.shape[1])
    return _whole(ranker, criterion)


def cosine_ranking(
    query: Tensor,
    database: Tensor,
    query_label: Tensor,
    database_label: Tensor,
    ties: Ties = "expected",
    graded: bool = False,
) -> Ranking:
    """Rank a database by the cosine of embeddings; arguments and errors as `hamming_ranking`."""
    query, database = (normalize(embedding_rows(x, name)) for x, name in ((query, "query"), (database, "database")))
    criterion = _criterion(query, database, query_label, database_label, ties, graded)
    return _whole(ScoreRanker([query], [database]), criterion)


def _criterion(
    query: Tensor, database: Tensor, query_label: Tensor, database_label: Tensor, ties: Ties, graded: bool
) -> Criterion:
    if ties not in get_args(Ties):
        raise ValueError(f"ties must be 'expected' or 'stable', got {ties!r}")
    labels = label_bits(query_label, "query_label"), label_bits(database_label, "database_label")
    shapes = [tuple(tensor.shape) for tensor in (query, database, *labels)]
    (q, k), (n, same), (ql, c), (nl, also) = shapes
    if k != same or c != also or q != ql or n != nl:
        raise ValueError(f"shapes do not fit: query {shapes[0]}, database {shapes[1]}, labels {shapes[2]}, {shapes[3]}")
    return Criterion(*labels, graded=graded, stable=ties == "stable")


def _whole(ranker: Ranker, criterion: Criterion) -> Ranking:
    every = slice(0, len(criterion.query))
    return concatenated([rankings[""] for _, rankings in ranker.rank(every, {"": criterion})])
