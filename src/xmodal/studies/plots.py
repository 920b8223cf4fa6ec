"""What a study found, drawn with Optuna's own figures."""

import contextlib
import warnings
from pathlib import Path

import optuna
from matplotlib import pyplot as plt
from optuna.exceptions import ExperimentalWarning
from optuna.trial import TrialState
from optuna.visualization import matplotlib as drawn

from xmodal.files import write_atomically
from xmodal.studies.storage import stored_study


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
