"""`xmodal plots`: what a study found, drawn, and precision over recall of the runs at its size."""

import argparse
import contextlib
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import optuna
from matplotlib import pyplot as plt
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState
from optuna.visualization import matplotlib as drawn

from xmodal.errors import UserError
from xmodal.files import write_atomically
from xmodal.records.figures import draw_curves
from xmodal.records.setups import collect, group
from xmodal.run import MAX_SIZE, configuration, size_argument, whole_list
from xmodal.tuning.front import AGAINST
from xmodal.tuning.storage import stored_study, study_name


def main(argv: Sequence[str]) -> int:
    """`xmodal plots METHOD DATA --bits 64 [--storage URL]`: PNG files in the folder of that size; prints their paths.

    Importance of the parameters and parallel coordinates of the study, if there is one; precision over recall of the
    plain and tuned runs, if there are any. With `--against`, the front of that study, beside its table.
    """
    from xmodal.cli import Parsed

    parser = argparse.ArgumentParser(prog="xmodal plots", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("method")
    parser.add_argument("data")
    parser.add_argument("--bits", help="code length of a binary method; several with --against")
    parser.add_argument("--dim", help="embedding size of a real-valued method; several with --against")
    parser.add_argument("--against", choices=AGAINST, help="draw the front of val/map against this")
    parser.add_argument("--storage", help="URL of the study database; default: SQLite under runs/")
    options = parser.parse_args(list(argv))
    bits, dim, sizes = options.bits, options.dim, []
    if options.against:
        kind = "bits" if dim is None else "dim"
        sizes = whole_list(kind.upper(), getattr(options, kind) or "", 1, MAX_SIZE)
        bits, dim = (str(sizes[0]) if given else None for given in (bits, dim))
    parsed = Parsed([*configuration(options.method, options.data), *size_argument(options.method, bits, dim)])
    name = study_name(options.method, options.data, sizes or [parsed.size], options.against)
    folder = parsed.folder.parents[1 if options.against else 0]
    written = draw_study(folder, name, options.storage, options.against)
    groups = {each.variant: each for each in group(collect(folder)[0]) if each.is_plain and each.queries is not None}
    if groups and not options.against:
        draw_curves(folder / "precision_recall.png", groups, name)
        written.append(folder / "precision_recall.png")
    if not written:
        raise UserError(
            f"nothing to draw: no two finished trials that differ in the study {name}"
            + ("." if options.against else f", and no evaluated run in {folder}.")
        )
    sys.stdout.writelines(f"{path}\n" for path in written)
    return 0


def draw_study(folder: Path, name: str, storage: str | None = None, against: str | None = None) -> list[Path]:
    """Draw `importance.png` and `parallel_coordinates.png` of a study into a folder; nothing before two trials differ.

    A study of two objectives has `<name>-front.png` instead.

    Args:
        folder: where the files go.
        name: of the study, such as `dmsf-emoji-64`.
        storage: URL of the study database; SQLite under runs/ by default.
        against: what its second objective is, if it has two.

    Raises:
        UserError: the database cannot be read.
    """
    warnings.simplefilter("ignore", ExperimentalWarning)  # drawing with matplotlib is marked so
    warnings.filterwarnings("ignore", "Attempting to set identical low and high ylims")  # a parameter that never varied
    with stored_study(storage, name) as study:
        if study is None:
            return []
        found = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if len({tuple(trial.values) for trial in found}) < 2:
            return []
        with plt.rc_context():  # Optuna sets a style
            return _drawn(folder, study, against)


def _drawn(folder: Path, study: optuna.Study, against: str | None) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    if against:
        drawn.plot_pareto_front(study, target_names=["val/map", against])
        return [_saved(folder / f"{study.study_name}-front.png", 6)]
    written = []
    # No `target`: with one, Optuna takes low values for good ones. No figure where the trials are too few or too alike.
    with contextlib.suppress(RuntimeError, ValueError, UserWarning), warnings.catch_warnings():
        warnings.filterwarnings("error", "Target and region quantiles select the same")
        drawn.plot_param_importances(study, target_name="val/map")
        written.append(_saved(folder / "importance.png", 9))
    drawn.plot_parallel_coordinate(study, target_name="val/map")
    return [*written, _saved(folder / "parallel_coordinates.png", 1.4 * len(study.best_params) + 4)]


def _saved(path: Path, width: float) -> Path:
    """Write the figure that Optuna has drawn with pyplot, `width` inches wide, and close it."""
    figure = plt.gcf()
    figure.set_size_inches(width, 4.5)
    for axes in figure.axes:
        axes.grid(visible=False)
    write_atomically(path, lambda file: figure.savefig(file, dpi=110, bbox_inches="tight"))
    plt.close(figure)
    return path
