"""The same inputs give the same numbers on 1, 2, 3 and 8 processes: uneven shards, an empty rank, padded repeats."""

import multiprocessing
import os

import pytest
import torch
import torch.distributed as dist

from tests.collectives import as_nccl_asks
from xmodal.metrics import retrieval_metrics

pytestmark = [
    pytest.mark.ddp,
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning"),  # the rank without samples
]

QUERIES = 20


def shards(rows, world, layout):
    """Row numbers of each rank."""
    if layout == "padded":  # what a padding sampler hands out: strided, wrapped around to equal length
        padded = torch.cat([rows, rows[: -len(rows) % world]])
        return [padded[rank::world] for rank in range(world)]
    if layout == "empty rank":
        return [rows[:0], *rows.tensor_split(world - 1)] if world > 1 else [rows]
    cuts = [len(rows) * (2**rank - 1) // (2**world - 1) for rank in range(1, world)]
    return list(rows.flip(0).tensor_split(cuts))


def evaluate(rank, world, kind, layout, data):
    image, text, label = data
    rows = torch.arange(len(label))
    hierarchy, group = torch.stack([rows % 6 // 3, rows % 6], 1), rows % 50
    metric = retrieval_metrics(kind)
    for split, part in (("query", rows[:QUERIES]), ("database", rows[QUERIES:])):
        mine = shards(part, world, layout)[rank]
        for batch in mine.split(16):
            columns = {"image": image, "text": text, "label": label, "hierarchy": hierarchy, "group": group}
            if len(batch):
                metric.update(split=split, index=batch, **{name: column[batch] for name, column in columns.items()})
    result = {key: float(value) for key, value in metric.compute().items()}
    details = metric["retrieval"]
    return result, details.average_precisions["i2t"].tolist(), details.curves["pr_rank_i2t"].precision.tolist()


def work(rank, world, path, kind, layout, data, results):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=world)
    as_nccl_asks()
    try:
        results.put((rank, evaluate(rank, world, kind, layout, data)))
    except ValueError as error:
        results.put((rank, str(error)))
    dist.barrier()
    dist.destroy_process_group()


def on_processes(world, path, *arguments):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=work, args=(rank, world, path, *arguments, results)) for rank in range(world)]
    for process in processes:
        process.start()
    collected = dict(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0
    return [collected[rank] for rank in range(world)]


@pytest.mark.parametrize("kind", ["binary", "real"])
@pytest.mark.parametrize(
    ("world", "layout"), [(2, "uneven"), (3, "padded"), (3, "empty rank"), (3, "uneven"), (8, "uneven")]
)
def test_processes_change_nothing(tmp_path, pairs, kind, world, layout):
    data = pairs()
    result, precisions, curve = evaluate(0, 1, kind, layout, data)
    for other, others, shape in on_processes(world, tmp_path / "store", kind, layout, data):
        assert other == pytest.approx(result, abs=1e-12)
        assert others == precisions
        assert shape == pytest.approx(curve, abs=1e-12)


def test_more_processes_than_queries(tmp_path, pairs):
    image, text, label = pairs(items=30)
    rows = torch.arange(QUERIES)
    data = tuple(column[torch.cat([rows[:1].expand(QUERIES), rows[1:].repeat(2)])] for column in (image, text, label))
    expected = evaluate(0, 1, "binary", "uneven", data)[0]
    for result, _, _ in on_processes(3, tmp_path / "store", "binary", "empty rank", data):
        assert result == pytest.approx(expected, abs=1e-12)


def test_every_process_reports_a_missing_split(tmp_path, pairs):
    data = tuple(column[:QUERIES] for column in pairs())  # no row is left for the database
    for message in on_processes(2, tmp_path / "store", "binary", "uneven", data):
        assert message == "no database pairs: call update(split='database', ...) before compute"
