"""`xmodal ablate`: the full method and every variant of `experiments/<method>/ablations`, under several seeds.

All runs have the budget, the data and the keys of the full method; a variant changes what its file says. Nothing is
chosen by the table: it is a report, so every run is evaluated on the query set, once.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from xmodal import arguments, paths
from xmodal.errors import UserError
from xmodal.experiment import configuration
from xmodal.records.setups import Setup, differences
from xmodal.records.tables import Cell, Table
from xmodal.run import overrides
from xmodal.significance import SeededTest, holm
from xmodal.studies.each_method import each_method
from xmodal.studies.grid import Grid, full_method, origin
from xmodal.studies.workers import check_workers, pool_of

FULL = "full method"
COLUMNS = ("variant", "i2t", "t2i", "mean", "difference", "95 % interval", "p", "")


def main(argv: Sequence[str]) -> int:
    """`xmodal ablate METHOD DATA [--bits 64] [options] [any key of the configuration, for all runs]`.

    The full method is the tuned file of that size where there is one, else the experiment file. Finished runs are used
    again. Ends with a table, which is also written as Markdown, CSV and LaTeX beside the runs.
    """
    options, rest = arguments.parser("ablate").parse_known_args(list(argv))
    check_workers(options)
    return each_method(options, lambda own: _ablate(own, rest), lambda method: bool(_variants(method)))


def _variants(method: str) -> list[Path]:
    """Those of the working folder, or the package's where it has no such folder: a deleted variant stays deleted."""
    return sorted(paths.found(paths.experiments() / method / "ablations").glob("*.yaml"))


def _ablate(options: argparse.Namespace, rest: Sequence[str]) -> None:
    from xmodal.cli import Parsed

    variants = _variants(options.method)
    if not variants:
        folder = paths.experiments() / options.method / "ablations"
        raise UserError(f"{options.method} has no variants: {folder} holds one file for each.")
    keys = overrides(options, rest)
    size = int(Parsed([*configuration(None, None, [options.base]), *keys]).size)
    file, full = full_method(options.method, options.data, size, options.base)
    rows = {FULL: [*full, *keys]}
    for path in variants:
        marks = [f"--variant={path.stem}", f"--group={options.method}-{options.data}-{size}", "--job_type=ablation"]
        rows[path.stem] = [*configuration(None, None, [file, path]), *marks, *keys]
    grid = Grid(rows, options.seeds, pool_of(options))
    shown = table(grid.setups(), paths.shown(file))
    sys.stdout.write(f"\n{shown.text()}\n")
    sys.stdout.writelines(f"{path}\n" for path in shown.write(grid.rows[FULL][0].folder.parent / "ablation"))


def table(setups: Mapping[str, Setup], source: str) -> Table:
    """Mean and spread over seeds of every row, and its difference to the full method.

    Args:
        setups: the runs of every row.
        source: where the full method comes from.

    Raises:
        UserError: a variant answered other queries than the full method.
    """
    full, tests = setups[FULL], dict[str, SeededTest]()
    changed = [name for name, found in setups.items() if found.records[0]["path"] != full.records[0]["path"]]
    for name, both in zip(changed, differences([(setups[name], full) for name in changed]), strict=True):
        if both is None:
            raise UserError(f"{name} answered other queries than the {FULL}: the two cannot be compared.")
        tests[name] = both["map"]
    p_values = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    rows: list[tuple[Cell, ...]] = []
    for name, found in setups.items():
        if name in tests:
            test = tests[name]
            interval = f"[{test.low:+.4f}, {test.high:+.4f}]"
            better = "better" if test.difference > 0 else ""
            p_value = f"{p_values[name]:.4f}" if test.seeds > 1 else "one seed"
            against = (f"{test.difference:+.4f}", interval, p_value, better)
        else:
            against = ("", "", "", "" if name == FULL else "changes nothing here")
        scores = (found.spread(f"test/{key}") or "" for key in ("map_i2t", "map_t2i", "map"))
        rows.append((name, *scores, *against))
    return Table(
        f"{full.method} on {full.dataset}, {full.size} {full.unit}: ablations, mAP@all on the query set",
        COLUMNS,
        tuple(rows),
        (
            f"Full method: {source}.",
            "Difference: variant minus full method; its 95 % interval and p (Student's t, Holm-corrected for "
            f"{len(tests)} variants) are over seeds and queries together, of AP averaged over directions.",
            *origin(setups.values()),
        ),
    )
