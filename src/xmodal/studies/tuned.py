"""What comes after a search: the best trial as an experiment file, evaluated once on the query set."""

import argparse
import json
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from xmodal.errors import UserError
from xmodal.experiment import configuration
from xmodal.files import write_atomically
from xmodal.records import read_results
from xmodal.records.record import is_evaluated, is_of, renewed, searched, tuned_text
from xmodal.run import overrides
from xmodal.studies.grid import check_data, written_file
from xmodal.studies.processes import Pool
from xmodal.studies.samplers import SOURCE
from xmodal.studies.space import experiment_with
from xmodal.studies.storage import DONE, DRAWN, POINT, WARM
from xmodal.studies.sweep import Sweep


def check_complete(study: optuna.Study) -> None:
    """Nothing comes after a search without a trial that ended well.

    Raises:
        UserError: no trial was completed.
    """
    if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
        raise UserError(f"no trial of {study.study_name} was completed; see above why, or raise TRIALS or MINUTES.")


def write_tuned(sweep: Sweep, study: optuna.Study, size: int) -> Path:
    """Write the best trial of a study, with a size, to `experiments/<method>/tuned/<dataset>-<size>.yaml`."""
    sweep.check_files()
    best, data = study.best_trial, sweep.options.data
    given, command = {f"model.{sweep.kind}": size}, f"xmodal sweep {sweep.options.method} {data}"
    if sweep.options.epochs:
        given["trainer.max_epochs"] = int(sweep.options.epochs)
        command += f" --epochs {sweep.options.epochs}"
    if sweep.options.seed is not None:
        command += f" --seed {sweep.options.seed}"
    command += ", then".join(drawn(study.get_trials(deepcopy=False, states=DONE)))
    content = experiment_with(sweep.base, {**given, **best.params})
    source = best.user_attrs.get(SOURCE, {"commit": None, "dirty": None})  # of a version that kept no code
    counts = {
        state.name.lower(): len(study.get_trials(deepcopy=False, states=(state,))) for state in (*DONE, TrialState.FAIL)
    }
    if earlier := before(study):
        counts["complete before, for its warm start"] = earlier
    body = yaml.safe_dump(content, sort_keys=False)
    text = tuned_text(body, command, study.study_name, best.number, study.best_value, counts, source)
    path = written_file(str(sweep.options.method), data, size)
    was, now = searched(path) if path.is_file() else None, len(study.get_trials(deepcopy=False, states=DONE)) + earlier
    if was is not None and was > now:
        sys.stderr.write(f"{path} was searched in {was} trials, and is replaced by the best of {now}\n")
    write_atomically(path, text)
    return path


def drawn(trials: Sequence[FrozenTrial]) -> list[str]:
    """The options that drew trials in other ways than the sweep file says, each once, in their order; or ''."""
    return list(dict.fromkeys(trial.user_attrs.get(SOURCE, {}).get(DRAWN, "") for trial in trials))


def before(study: optuna.Study) -> int:
    """In how many trials of other studies the points were searched that this one has tried as its warm start."""
    done = study.get_trials(deepcopy=False, states=DONE)
    tried = {json.dumps(trial.user_attrs.get(POINT), sort_keys=True) for trial in done}
    return sum(trials for point, trials in study.user_attrs.get(WARM, {}).items() if point in tried)


def evaluate(sweep: Sweep, tuned: Path, size: int, pool: Pool) -> dict[str, Any]:
    """The one evaluation on the query set, in a new process; a record of the same configuration is used again.

    Args:
        sweep: the search.
        tuned: what `write_tuned` wrote.
        size: of that file.
        pool: makes the process, which has not trained before: its record tells its peak of memory.

    Raises:
        UserError: the evaluation failed.
    """
    from xmodal.cli import Parsed
    from xmodal.studies.trial import run_whole

    options = argparse.Namespace(**vars(sweep.options) | {"bits": None, "dim": None})
    marks = [f"--group={options.method}-{options.data}-{size}", "--job_type=tuned"]
    arguments = [*configuration(None, None, [tuned]), *overrides(options), *marks]
    parsed = Parsed(arguments)
    for record in read_results(parsed.folder):
        if is_evaluated(record) and is_of(record, parsed.yaml, parsed.own_code):
            check_data(record)
            return renewed(record, parsed.given.trials)
    for _, outcome in filter(None, pool.run(deque([(run_whole, (arguments, sweep.devices))]))):
        if isinstance(outcome, Exception):
            sys.stderr.write(f"{outcome}\n")
            raise UserError(
                f"the best trial is written to {tuned}, but its evaluation failed; the reason is above."
            ) from outcome
        return next(read_results(Path(outcome).parent))
    raise AssertionError  # a task has one outcome
