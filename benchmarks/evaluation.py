"""Speed and memory of the retrieval metrics beside the field's ways, and beside what the machine can do at best.

    python benchmarks/evaluation.py                      # CPU, one thread; writes results/evaluation_speed.{csv,png}
    python benchmarks/evaluation.py --device cuda        # GPU against CPU: the same numbers, and the time

Everything is timed in one process, ours and the others in turn, median of the rounds. A peer that would take minutes is
timed on part of the queries and scaled up (column `timed_queries`). Seconds are for one direction, mAP over the whole
database; ours also gives precision@N, P@H<=2 and the precision-recall curve from the same histogram.
"""

import argparse
import csv
import ctypes
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt

from evaluation_peers import (
    SIZES,
    Problem,
    half_floor,
    hamming_floor,
    literature_loop,
    matmul_floor,
    pytorch_metric_learning,
    pytrec_eval,
    torchmetrics_class,
    torchmetrics_function,
)
from xmodal.metrics import average_precision, curve_by_radius, kernels_torch, precision_at, precision_recall_within
from xmodal.metrics.criterion import Criterion
from xmodal.metrics.packing import pack_bits
from xmodal.metrics.rankers import CodeRanker, ScoreRanker

RESULTS = Path(__file__).parents[1] / "results"
EVERYTHING = slice(0, None)


@dataclass
class Row:
    """One line of the CSV."""

    device: str
    size: str
    codes: str
    method: str
    seconds: float
    timed_queries: int
    over_floor: float
    loop_over_this: float
    extra_megabytes: float


def ours(problem: Problem, directions: int = 1) -> float:
    relevance = Criterion(problem.query_label, problem.database_label)
    if problem.query.dtype == torch.bool:
        ranker = CodeRanker(
            [pack_bits(problem.query)] * directions, [pack_bits(problem.database)] * directions, problem.query.shape[1]
        )
    else:
        ranker = ScoreRanker([problem.query] * directions, [problem.database] * directions)
    total = 0.0
    for block, chosen in ranker.passes({"main": relevance}):
        for start in range(0, len(problem.query), block):
            for _, rankings in ranker.rank(slice(start, min(start + block, len(problem.query))), chosen):
                ranking = rankings["main"]
                total += average_precision(ranking).sum()
                precision_at(ranking, [100, 1000])
                if ranking.levels is not None:
                    precision_recall_within(ranking)
                    curve_by_radius(ranking)
    return total / directions / len(problem.query)


def seconds(work: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def extra_megabytes(work: Callable[[], object]) -> float:
    """Growth of the peak resident memory while something runs (Linux; nan elsewhere)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # what earlier runs freed is given back, so that it counts again
        Path("/proc/self/clear_refs").write_text("5")  # and the peak starts from here
    except (OSError, AttributeError):
        return float("nan")
    before = _memory("VmRSS")
    work()
    return (_memory("VmHWM") - before) / 1024


def _memory(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def timed(problem: Problem, methods: dict[str, tuple[Callable[..., float], int]], rounds: int, device: str):
    """Median seconds of each method for all queries of the problem, the methods taking turns."""
    whole = len(problem.query)
    parts = {name: problem.first(min(count or whole, whole)) for name, (_, count) in methods.items()}
    for name, (work, _) in methods.items():
        work(parts[name].first(1))  # compile, load libraries
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for _ in range(rounds):
        for name, (work, _) in methods.items():
            share = whole / len(parts[name].query)
            share /= 2 if work is both_directions else 1
            taken[name].append(share * seconds(lambda work=work, name=name: work(parts[name]), device))
    return {name: statistics.median(values) for name, values in taken.items()}, parts


def rows_of(size: str, codes: str, problem: Problem, methods, floor: str, rounds: int) -> Iterator[Row]:
    median, parts = timed(problem, methods, rounds, "cpu")
    for name, value in median.items():
        measured = name.startswith("xmodal")
        memory = extra_megabytes(lambda name=name: methods[name][0](parts[name])) if measured else float("nan")
        yield Row(
            device_name("cpu"), size, codes, name, value, len(parts[name].query),
            value / median[floor], median["literature loop"] / value, memory,
        )  # fmt: skip


def both_directions(problem: Problem) -> float:
    """Timed as half: two directions share the label test."""
    return ours(problem, directions=2)


def on_cpu(sizes: list[str], bits: list[int], rounds: int) -> Iterator[Row]:
    for size in sizes:
        few = max(4, 400_000 // SIZES[size][1])
        for length in bits:
            methods = {
                "xmodal, one direction": (ours, 0),
                "xmodal, of both directions": (both_directions, 0),
                "floor: popcount + increment": (hamming_floor, 0),
                "literature loop": (literature_loop, 4 * few),
                "torchmetrics functional": (torchmetrics_function, 4 * few),
                "torchmetrics RetrievalMAP": (torchmetrics_class, few),
            }
            if length == 64:
                methods["pytorch-metric-learning"] = (pytorch_metric_learning, few)
                methods["pytrec_eval"] = (pytrec_eval, few)
            problem = Problem.make(size, length)
            yield from rows_of(size, f"{length} bits", problem, methods, "floor: popcount + increment", rounds)
        methods = {
            "xmodal, one direction": (ours, 256),
            "floor: blocked matmul": (matmul_floor, 256),
            "literature loop": (literature_loop, 2 * few),
            "torchmetrics functional": (torchmetrics_function, 2 * few),
        }
        yield from rows_of(
            size, "512-d cosine", Problem.make(size, 512, real=True), methods, "floor: blocked matmul", rounds
        )


def on_cuda(sizes: list[str], bits: list[int], rounds: int) -> Iterator[Row]:
    """The GPU's histograms equal the CPU's to the last digit; the floor is one matrix product of codes and labels."""
    for size in sizes:
        for length in bits:
            here = Problem.make(size, length)
            there = here.to("cuda")
            for graded in (False, True):
                found, expected = (binned(problem, graded) for problem in (there, here))
                if not np.array_equal(found, expected):
                    raise RuntimeError(f"{size}, {length} bits, graded={graded}: GPU and CPU differ")
            methods = {
                "xmodal, histogram": (binned, 0),
                "xmodal, histogram in torch": (binned_in_torch, 0),
                "xmodal, one direction": (ours, 0),
                "floor: fp16 matmul": (half_floor, 0),
            }
            median, parts = timed(there, methods, rounds, "cuda")
            for name, value in median.items():
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
                methods[name][0](parts[name])
                extra = (torch.cuda.max_memory_allocated() - before) / 2**20
                yield Row(
                    device_name("cuda"), size, f"{length} bits", name, value, len(there.query),
                    value / median["floor: fp16 matmul"], float("nan"), extra,
                )  # fmt: skip


def binned(problem: Problem, graded: bool = False) -> np.ndarray:
    """The histogram alone, from packed codes."""
    relevance = Criterion(problem.query_label, problem.database_label, graded=graded)
    ranker = CodeRanker([pack_bits(problem.query)], [pack_bits(problem.database)], problem.query.shape[1])
    return ranker.histogram(EVERYTHING, relevance)[0]


def binned_in_torch(problem: Problem) -> np.ndarray:
    """The same without the fused kernel, from unpacked codes."""
    sides = problem.query, problem.database, problem.query_label, problem.database_label
    return kernels_torch.histogram(*sides, grades=2).cpu().numpy()


def device_name(device: str) -> str:
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor()
    )
    return f"{model}, 1 thread"


def markdown(rows: list[Row]) -> str:
    """The tables of docs/metrics.md."""
    tables = []
    sizes = {row.size: "{:,} x {:,} x {}".format(*SIZES[row.size]) for row in rows}
    for codes in ("64 bits", "512-d cosine"):
        seconds_of = {(row.method, row.size): f"{row.seconds:.3g}" for row in rows if row.codes == codes}
        head = f"| {codes}, seconds | " + " | ".join(f"{size} {shape}" for size, shape in sizes.items()) + " |"
        lines = [head, "|---" * (len(sizes) + 1) + "|"]
        for method in dict.fromkeys(method for method, _ in seconds_of):
            mark = "**" if method.startswith("xmodal") else ""
            cells = " | ".join(mark + seconds_of[method, size] + mark for size in sizes)
            lines.append(f"| {method} | {cells} |")
        tables.append("\n".join(lines))
    return "\n\n".join(tables)


def plot(rows: list[Row], file: Path) -> None:
    kinds = sorted({row.codes for row in rows if row.codes in ("64 bits", "512-d cosine")})
    figure, axes = plt.subplots(1, len(kinds), figsize=(6.5 * len(kinds), 4.2), layout="constrained", squeeze=False)
    for ax, codes in zip(axes[0], kinds, strict=True):
        sizes = [size for size in SIZES if any(row.size == size for row in rows)]
        names = list(dict.fromkeys(row.method for row in rows if row.codes == codes))
        for n, name in enumerate(names):
            values = [
                next((r.seconds for r in rows if (r.size, r.codes, r.method) == (size, codes, name)), np.nan)
                for size in sizes
            ]
            places = np.arange(len(sizes)) + (n - len(names) / 2) * 0.8 / len(names)
            own = [other for other in names if other.startswith("xmodal")]
            colour = "0.3" if name.startswith("floor") else f"C{n + 2 if n > 1 else 0}"
            colour = ("C3", "lightcoral", "maroon")[own.index(name)] if name in own else colour
            ax.bar(places, values, 0.8 / len(names), label=name, color=colour)
        ax.set_yscale("log")
        ax.set_xticks(range(len(sizes)), sizes)
        ax.set(title=f"{codes}, {rows[0].device}", ylabel="seconds for one mAP (one direction)")
        ax.legend(fontsize=7)
    figure.savefig(file, dpi=110)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--bits", nargs="+", type=int, default=[16, 32, 64, 128])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the CSV and the plot")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    rows = []
    run = on_cuda if arguments.device == "cuda" else on_cpu
    for row in run(arguments.sizes, arguments.bits, arguments.rounds):
        rows.append(row)
        print(
            f"{row.size:<10} {row.codes:<13} {row.method:<28} {row.seconds:>10.4f} s {row.over_floor:>8.2f} x floor, "
            f"loop / this {row.loop_over_this:>7.1f}, {row.extra_megabytes:>6.1f} MB",
            flush=True,
        )
    arguments.out.mkdir(parents=True, exist_ok=True)
    name = "evaluation_speed" if arguments.device == "cpu" else "evaluation_speed_cuda"
    with (arguments.out / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(asdict(rows[0])))
        writer.writeheader()
        for row in rows:
            writer.writerow({key: f"{v:.6g}" if isinstance(v, float) else v for key, v in asdict(row).items()})
    plot(rows, arguments.out / f"{name}.png")
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
