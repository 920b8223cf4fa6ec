"""Searching synthetic codes: our layer and FAISS alone in the same run, exact and approximate; a table, and a CSV.

    python benchmarks/search.py [--sizes 1000000] [--bits 64,128] [--kinds flat,ivf] [--csv FILE]

Times are milliseconds of CPU for a query on one thread, the least of several, so that neighbours on the machine count
little. Codes are of N / 20 random centres, an eighth of the bits flipped, and so are queries. Recall is by distance: a
hit counts if it is no farther than the last of the exact ones. `over_read` is the time of a query over that in which
the memory delivers the codes once (NumPy's XOR of all words, same run).
"""

import argparse
import csv
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import torch

from xmodal.search.engine import KINDS, Engine, build, write

K, BLOCK = 10, 100


def seconds(work: Callable[[], object], repeats: int) -> float:
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def codes(size: int, bits: int, rng: np.random.Generator, centres: np.ndarray) -> np.ndarray:
    chosen = centres[rng.integers(len(centres), size=size)]
    for start in range(0, size, 1 << 20):  # bits flipped with probability 1 / 8: three random bits that are all set
        part = chosen[start : start + (1 << 20)]
        flips = rng.integers(0, 256, (3, *part.shape), np.uint8)
        part ^= flips[0] & flips[1] & flips[2]
    return chosen


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(size: int, bits: int, kinds: list[str], out: list[dict[str, object]]) -> None:
    rng = np.random.default_rng(0)
    centres = rng.integers(0, 256, (size // 20, bits // 8), np.uint8)
    rows, queries = codes(size, bits, rng, centres), codes(1000, bits, rng, centres)
    words = rows.view(np.uint64).ravel()
    read = seconds(lambda: np.bitwise_xor.reduce(words), 15)
    known = queries[: BLOCK if size > 5_000_000 else len(queries)]
    last = Engine.of(build("flat", rows, progress=False), "flat").search(known, K).distances[:, -1:]
    for kind in kinds:
        start = time.process_time()
        index = build(kind, rows, progress=False)
        built = time.process_time() - start
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index.faiss"
            write(index, path)
            megabytes = path.stat().st_size / 2**20
            del index
            before = resident()
            engine = Engine(path, kind, binary=True)
            opened = resident() - before
            found = engine.search(known, K)
            hit = (found.distances <= last) & (found.rows >= 0)
            row: dict[str, object] = {
                "size": size, "bits": bits, "kind": kind, "build_s": round(built, 1), "file_mib": round(megabytes),
                "opened_mib": round(opened), "recall": round(float(hit.mean()), 4), "read_ms": round(1000 * read, 3),
            }  # fmt: skip
            for batch in (1, 1000):
                some, label = queries[:batch], batch
                repeats = (20 if kind == "flat" else 200) if batch == 1 else (1 if kind == "flat" else 5)
                if batch > 1 and size > 5_000_000 and kind == "flat":
                    some = some[: (batch := BLOCK)]  # enough queries that the codes stay in the cache between them
                engine.search(some[:1], K), engine.index.search(some[:1], K)
                ours = seconds(lambda engine=engine, some=some: engine.search(some, K), repeats) / batch
                alone = seconds(lambda engine=engine, some=some: engine.index.search(some, K), repeats) / batch
                row |= {
                    f"ours_{label}_ms": round(1000 * ours, 4), f"faiss_{label}_ms": round(1000 * alone, 4),
                    f"ours_over_faiss_{label}": round(ours / alone, 3),
                }  # fmt: skip
            row["over_read"] = round(float(str(row["ours_1_ms"])) / float(str(row["read_ms"])), 2)
            out.append(row)
            print(row, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="1000000")
    parser.add_argument("--bits", default="64,128")
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    out: list[dict[str, object]] = []
    for size in map(int, options.sizes.split(",")):
        for bits in map(int, options.bits.split(",")):
            measure(size, bits, options.kinds.split(","), out)
    target = options.csv.open("a", newline="") if options.csv else sys.stdout
    with target:
        writer = csv.DictWriter(target, list(out[0]))
        if target.tell() == 0 if options.csv else True:
            writer.writeheader()
        writer.writerows(out)


if __name__ == "__main__":
    main()
