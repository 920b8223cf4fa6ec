"""`xmodal sweep`: the command line of a search, and the table that ends it."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xmodal import paths
from xmodal.errors import UserError
from xmodal.run import MAX_SIZE, add_run_options, experiment_file, whole, whole_list
from xmodal.tuning import front
from xmodal.tuning.cluster import run_jobs
from xmodal.tuning.samplers import PRUNERS, SAMPLERS
from xmodal.tuning.several import HELP, each_method
from xmodal.tuning.space import read_search
from xmodal.tuning.study import Sweep


def main(argv: Sequence[str]) -> int:
    """`xmodal sweep METHOD DATA --bits 64[,32,...] [options]`; ends with a table of bits and directions."""
    options = _parse(argv)
    if options.jobs:
        run_jobs(search, argv, whole("JOBS", options.jobs, 1, 1024), options.job, shared=bool(options.storage))
    return each_method(options, _sweep, _has_space)


def search(argv: Sequence[str]) -> None:
    """What a job of `--jobs` does: the trials of `xmodal sweep`, and nothing after them."""

    def trials(options: argparse.Namespace) -> None:
        for sweep in _plan(options):
            sweep.search()

    options = _parse(argv)
    try:
        each_method(options, trials, _has_space)
    except UserError as error:
        if options.method != "all" and "," not in options.method:
            raise
        sys.stderr.write(f"{error}\n")  # the job did the others, and the command reports who failed


def _sweep(options: argparse.Namespace) -> None:
    """All of one method: its studies, their evaluations and figures, and the table."""
    records = [sweep.run(search=not options.jobs) for sweep in _plan(options)]
    if not options.against:
        _print_table("dim" if options.dim else "bits", records)
        sys.stdout.write(f"{records[-1]['path']}\n")


def _has_space(method: str) -> bool:
    return (paths.sweeps() / f"{method}.yaml").is_file()


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="xmodal sweep", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("method", help=HELP)
    parser.add_argument("data")
    add_run_options(parser)
    parser.add_argument("--trials", help="finished trials the study shall have in the end; default: the sweep file's")
    parser.add_argument("--minutes", help="start no trial after so many minutes; without --trials nothing else ends it")
    parser.add_argument("--sampler", help=f"{', '.join(SAMPLERS)}; default: the sweep file's")
    parser.add_argument("--sampler_seed", help="seed of the sampler; default: the sweep file's")
    parser.add_argument("--pruner", help=f"{', '.join(PRUNERS)}; default: the sweep file's")
    parser.add_argument("--warm_start", type=Path, help="experiment file, such as a tuned one, that is tried first")
    parser.add_argument("--against", choices=front.AGAINST, help="search the Pareto front of val/map against this")
    parser.add_argument("--workers", default="1", help="trials that run side by side; each has GPUs of its own")
    parser.add_argument("--storage", help="URL of the study database; default: SQLite under runs/")
    parser.add_argument("--jobs", help="search in so many jobs, of SLURM where there is one; see the README")
    parser.add_argument("--job", action="append", default=[], help="a setting of submitit, such as slurm_partition=gpu")
    options = parser.parse_args(list(argv))
    for check in (_sizes, _workers, _settings):  # a slip is said at once, before anything is started
        check(options)
    return options


def _plan(options: argparse.Namespace) -> list[Sweep]:
    base = experiment_file(options.method, options.data)
    searched = read_search(paths.sweeps() / f"{options.method}.yaml", _settings(options))
    kind, sizes = _sizes(options)
    studies = [sizes] if options.against else [[size] for size in sizes]
    return [Sweep(options, base, searched, kind, each, _workers(options)) for each in studies]


def _sizes(options: argparse.Namespace) -> tuple[str, list[int]]:
    kind, text = ("bits", options.bits) if options.bits else ("dim", options.dim)
    if not text:
        raise UserError(
            "name the size of the study: BITS=64 (or BITS=16,32,64) for a binary method, DIM=256 for a real-valued one."
        )
    return kind, whole_list(kind.upper(), text, 1, MAX_SIZE)


def _workers(options: argparse.Namespace) -> int:
    return whole("WORKERS", options.workers, 1, 256)


def _settings(options: argparse.Namespace) -> dict[str, Any]:
    """What the command line says in place of the sweep file's header."""
    given: dict[str, Any] = {}
    if options.minutes:
        given |= {"minutes": whole("MINUTES", options.minutes, 1, 1_000_000), "trials": None}
    if options.trials:
        given["trials"] = whole("TRIALS", options.trials, 1, 1_000_000)
    if options.pruner:
        given["pruner"] = {"name": options.pruner}
    sampler = {"name": options.sampler} if options.sampler else {}
    if options.sampler_seed:
        sampler["seed"] = whole("SAMPLER_SEED", options.sampler_seed, 0, 2**31 - 1)
    if sampler:
        given["sampler"] = sampler
    return given


def _print_table(kind: str, records: Sequence[Mapping[str, Any]]) -> None:
    sys.stdout.write(
        f"\n{records[0]['method']} on {records[0]['dataset']}, query set, mAP@all\n"
        f"{kind:>6}      i2t     t2i    mean     val\n"
    )
    for record in records:
        i2t, t2i = record["metrics"]["test/map_i2t"], record["metrics"]["test/map_t2i"]
        sys.stdout.write(
            f"{record['size']:>6}   {i2t:.4f}  {t2i:.4f}  {(i2t + t2i) / 2:.4f}  {record['metrics']['val/map']:.4f}\n"
        )
    sys.stdout.write("\n")
