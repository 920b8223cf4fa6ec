"""`xmodal ablate`: the full method and every variant of `experiments/<method>/ablations`, under several seeds.

All runs have the budget, the data and the keys of the full method; a variant changes what its file says. Nothing is
chosen by the table: it is a report, so every run is evaluated on the query set, once.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xmodal import paths
from xmodal.errors import UserError
from xmodal.metrics import paired_test
from xmodal.run import configuration, experiment_file, overrides
from xmodal.tracking.tables import Cell, Spread, Table
from xmodal.tuning.grid import Grid, Record, add_grid_options, full_method

FULL = "full method"
COLUMNS = ("variant", "i2t", "t2i", "mean", "difference", "95 % interval", "p", "")


def main(argv: Sequence[str]) -> int:
    """`xmodal ablate METHOD DATA [--bits 64] [options] [any key of the configuration, for all runs]`.

    The full method is the tuned file of that size where there is one, else the experiment file. Finished runs are used
    again. Ends with a table, which is also written as Markdown, CSV and LaTeX beside the runs.
    """
    from xmodal.cli import Parsed

    parser = argparse.ArgumentParser(prog="xmodal ablate", description=main.__doc__, allow_abbrev=False)
    add_grid_options(parser)
    options, rest = parser.parse_known_args(list(argv))
    base = experiment_file(options.method, options.data)
    variants = sorted((base.parent / "ablations").glob("*.yaml"))
    if not variants:
        raise UserError(f"{options.method} has no variants: {base.parent / 'ablations'} holds one file for each.")
    keys = [*overrides(options), *rest]
    size = int(Parsed([*configuration(options.method, options.data), *keys]).size)
    file, full = full_method(options.method, options.data, size)
    rows = {FULL: [*full, *keys]}
    for path in variants:
        marks = [f"--variant={path.stem}", f"--group={options.method}-{options.data}-{size}", "--job_type=ablation"]
        rows[path.stem] = [*configuration(None, None, [file, path]), *marks, *keys]
    grid = Grid(rows, options)
    shown = table(grid.records(), str(file.relative_to(paths.experiments())))
    sys.stdout.write(f"\n{shown.text()}\n")
    sys.stdout.writelines(f"{path}\n" for path in shown.write(grid.rows[FULL][0].folder.parent / "ablation"))
    return 0


def table(records: Mapping[str, Sequence[Record]], source: str) -> Table:
    """Mean and spread over seeds of every row, and its difference to the first row, the full method.

    The test is over queries: of each query the mean AP over seeds and directions, of the variant and of the full
    method. It speaks of these trained models on new queries; how much training itself varies is the spread.

    Args:
        records: of every row, in one order of seeds; their `evaluation.npz` lies beside them.
        source: where the full method comes from.

    Raises:
        UserError: a variant answered other queries than the full method.
    """
    full = records[FULL]
    asked = {name: (found[0]["split_hash"], found[0]["relevance"]) for name, found in records.items()}
    if others := [name for name, protocol in asked.items() if protocol != asked[FULL]]:
        raise UserError(f"{', '.join(others)}: evaluated under another protocol than the {FULL}, so not comparable.")
    changed = [name for name, found in records.items() if found[0]["path"] != full[0]["path"]]
    tests = {name: paired_test(_queries(records[name]), _queries(full)) for name in changed}
    p_values = dict(zip(tests, holm([test.p_value for test in tests.values()]), strict=True))
    rows: list[tuple[Cell, ...]] = []
    for name, found in records.items():
        scores = (Spread.of([run["metrics"][f"test/{key}"] for run in found]) for key in ("map_i2t", "map_t2i", "map"))
        if name in tests:
            test, p = tests[name], p_values[name]
            interval = f"[{test.low:+.4f}, {test.high:+.4f}]"
            against = (f"{test.difference:+.4f}", interval, f"{p:.4f}", "better" if test.difference > 0 else "")
        else:
            against = ("", "", "", "" if name == FULL else "changes nothing here")
        rows.append((name, *scores, *against))
    first, unit = full[0], "bits" if full[0]["kind"] == "binary" else "dimensions"
    commits = sorted(
        {f"{run['commit']}"[:10] + "+" * bool(run["dirty"]) for found in records.values() for run in found}
    )
    return Table(
        f"{first['method']} on {first['dataset']}, {first['size']} {unit}: ablations, mAP@all on the query set",
        COLUMNS,
        tuple(rows),
        (
            f"Full method: {source}; seeds {', '.join(str(run['seed']) for run in full)}, mean +- sample deviation; "
            f"{first['split_sizes']['query']} queries.",
            "Difference: variant minus full method; its bootstrap interval and p (paired randomisation test, "
            f"Holm-corrected for {len(tests)} variants) are over queries, of AP averaged over seeds and directions.",
            f"Commit {', '.join(commits)} (+: with uncommitted changes).",
        ),
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values that stay honest when several tests are made at once (S. Holm, Scand. J. Statist. 1979).

    Example:
        >>> holm([0.01, 0.04, 0.02])
        [0.03, 0.04, 0.04]
    """
    adjusted, least = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(np.argsort(p_values)):
        least = max(least, min(1.0, p_values[place] * (len(p_values) - rank)))
        adjusted[place] = least
    return adjusted


def _queries(records: Sequence[Record]) -> NDArray[np.float64]:
    """(Q,) AP of every query, mean over directions and seeds."""
    values = []
    for record in records:
        with np.load(Path(record["path"]).with_name("evaluation.npz")) as kept:
            values += [kept["ap_i2t"], kept["ap_t2i"]]
    mean: NDArray[np.float64] = np.mean(values, axis=0)
    return mean
