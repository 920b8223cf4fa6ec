"""`xmodal sweep`: the command line of a search, and the table that ends it."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xmodal import arguments, paths
from xmodal.errors import UserError
from xmodal.experiment import experiment, method_class
from xmodal.run import MAX_SIZE, whole, whole_list
from xmodal.studies import front
from xmodal.studies.each_method import each_method
from xmodal.studies.grid import check_same_data, written_file
from xmodal.studies.jobs import run_jobs
from xmodal.studies.processes import Pool
from xmodal.studies.space import read_search
from xmodal.studies.supervise import check_jobs, supervise
from xmodal.studies.sweep import Sweep
from xmodal.studies.tuned import check_complete, evaluate, write_tuned
from xmodal.studies.workers import check_workers, pool_of


def main(argv: Sequence[str]) -> int:
    """`xmodal sweep METHOD DATA --bits 64[,32,...] [options]`; ends with a table of bits and directions."""
    options = parse(argv)
    if options.jobs:
        run_jobs(search, argv, whole("JOBS", options.jobs, 1, 1024), options.job, shared=bool(options.storage))
    return each_method(options, _sweep, _has_space)


def search(argv: Sequence[str]) -> None:
    """What a job of `--jobs` does: the trials of `xmodal sweep`, and nothing after them."""
    options = parse(argv)

    def trials(own: argparse.Namespace) -> None:
        pool = _pool(own)
        for sweep in plan(own):
            first = _first(sweep)
            with sweep.open(forks=True) as opened:
                supervise(sweep, opened, pool, first)

    try:
        each_method(options, trials, _has_space)
    except UserError as error:
        if options.method != "all" and "," not in options.method:
            raise
        sys.stderr.write(f"{error}\n")  # the job did the others, and the command reports who failed


def _pool(options: argparse.Namespace) -> Pool:
    jobs = int(options.jobs or 1) if "SLURM_JOB_ID" not in os.environ else 1  # which share this machine
    return pool_of(options, jobs)


def _sweep(options: argparse.Namespace) -> None:
    """All of one method: its studies, their evaluations and figures, and the table."""
    pool = _pool(options)
    records = [record for sweep in plan(options) for record in _study(sweep, pool)]
    if not options.against:
        _print_table("dim" if options.dim else "bits", records)
        sys.stdout.write(f"{records[-1]['path']}\n")


def tune(sweep: Sweep, pool: Pool) -> dict[int, Path]:
    """Search, and write the best trial as the tuned file of every size; the files by size.

    With `--against` there is no one best trial: the front is printed and stored, and no file is written.

    Raises:
        UserError: the search or the database is not usable, or no trial was completed.
    """
    options, first = sweep.options, _first(sweep)
    with sweep.open(forks=True) as opened:
        if options.jobs:  # which have searched already
            check_jobs(sweep, opened.study)
        else:
            supervise(sweep, opened, pool, first)
        check_complete(opened.study)
        if not sweep.against:
            return {size: write_tuned(sweep, opened.study, size) for size in sweep.sizes}
        sys.stdout.write(front.leave_front(opened.study, options.method, options.data, sweep.against))
        return {}


def _study(sweep: Sweep, pool: Pool) -> list[dict[str, Any]]:
    """Tune, evaluate every size once on the query set (not with `--against`), draw the study; the records."""
    options, tuned = sweep.options, tune(sweep, pool)
    folder = paths.runs() / options.method / options.data
    records = [evaluate(sweep, file, size, pool) for size, file in tuned.items()]
    if records:
        folder = Path(records[-1]["path"]).parents[1]
    from xmodal.studies.plots import draw_study  # matplotlib takes a second

    try:
        for figure in draw_study(folder, sweep.name, options.storage, sweep.against):
            sys.stderr.write(f"figure: {figure}\n")
    except Exception as error:  # a search that is done does not fail for its figures
        sys.stderr.write(f"no figures of {sweep.name}: {error}\n")
    return records


def _first(sweep: Sweep) -> list[dict[str, Any]]:
    """Check the space; the points to try first, that of `--warm_start` before the untuned method."""
    first = {paths.shown(sweep.base): sweep.points()[0]}
    if file := sweep.options.warm_start:
        first = {f"warm start {file}": sweep.warm_point(file)} | first
    for name, point in first.items():
        if left := sweep.sought.outside(point):
            sys.stderr.write(f"{name}: {', '.join(left)} lie outside the space and are drawn\n")
    return list(first.values())


def _has_space(method: str) -> bool:
    return paths.found(paths.sweeps() / f"{method}.yaml").is_file()


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The command line, checked."""
    options = arguments.parser("sweep").parse_args(list(argv))
    for check in (_sizes, check_workers, _settings):  # a slip is said at once, before anything is started
        check(options)
    return options


def plan(options: argparse.Namespace) -> list[Sweep]:
    """The searches of a command line: one a size, or one of all sizes that share a training.

    Raises:
        UserError: a tuned file that would be replaced is of other data under the same name, beside what is not usable.
    """
    base = getattr(options, "base", None) or experiment(options.method, options.data).file
    searched = read_search(paths.found(paths.sweeps() / f"{options.method}.yaml"), _settings(options))
    kind, sizes = _sizes(options)
    for file in (written_file(options.method, options.data, size) for size in sizes):
        if file.is_file() and not options.against:
            check_same_data(file, base)
    method = method_class(options.method)  # takes seconds; the command line is checked before
    together = options.against or (method is not None and method.one_training)
    studies = [sizes] if together else [[size] for size in sizes]
    return [Sweep(options, base, searched, kind, each) for each in studies]


def _sizes(options: argparse.Namespace) -> tuple[str, list[int]]:
    kind, text = ("bits", options.bits) if options.bits else ("dim", options.dim)
    if not text:
        raise UserError(
            "name the size of the study: BITS=64 (or BITS=16,32,64) for a binary method, DIM=256 for a real-valued one."
        )
    return kind, whole_list(kind.upper(), text, 1, MAX_SIZE)


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
            f"{record['size']:>6}   {i2t:.4f}  {t2i:.4f}  {(i2t + t2i) / 2:.4f}  {record['metrics']['val/map']:.4f}"
            + (f"  ({out} out)\n" if (out := record["output_size"]) != record["size"] else "\n")
        )
    sys.stdout.write("\n")
