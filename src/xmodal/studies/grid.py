"""A grid of runs, the rows of a table times seeds: workers do one after another, and none of them twice.

A run is `xmodal train` with a record: it is found again by the hash of its configuration, and goes on from its last
checkpoint where it was interrupted.
"""

import sys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from zipfile import is_zipfile

import optuna
from filelock import FileLock, Timeout

from xmodal import paths
from xmodal.checks import MAX_SEED
from xmodal.code import code_of
from xmodal.errors import UserError
from xmodal.experiment import configuration, experiment
from xmodal.folder import OVERWRITE, difference, leftovers, settings
from xmodal.progress import bar
from xmodal.records import read_results
from xmodal.records.record import is_of, mixed_sources, read_result, renewed
from xmodal.records.setups import DATA, Record, Setup, other_data
from xmodal.run import whole_list
from xmodal.safe_yaml import parse_yaml, read_yaml
from xmodal.studies.processes import Pool, Task
from xmodal.studies.space import read_search
from xmodal.studies.storage import DONE, record_of


def full_method(method: str, dataset: str, size: int, base: Path | None = None) -> tuple[Path, list[str]]:
    """The file of the full method at a size, tuned where there is one, and the arguments of its runs.

    They are those of `xmodal train` and of a sweep's last evaluation, so that these runs are found again.

    Args:
        method: its name.
        dataset: its name.
        size: bits or dimensions.
        base: the experiment file of the two, for where nothing is tuned; default: by their names.

    Raises:
        UserError: the tuned file was searched on other data than the experiment file names.
    """
    tuned = tuned_file(method, dataset, size)
    if not tuned.is_file():
        base = base or experiment(method, dataset).file
        return base, configuration(None, None, [base])
    check_same_data(tuned, base)
    return tuned, [*configuration(None, None, [tuned]), f"--group={method}-{dataset}-{size}", "--job_type=tuned"]


def tuned_file(method: str, dataset: str, size: int) -> Path:
    """Where a sweep has written its best trial."""
    return paths.found(written_file(method, dataset, size))


def written_file(method: str, dataset: str, size: int) -> Path:
    """Where a sweep writes its best trial; the file of an installed package stays."""
    return paths.experiments() / method / "tuned" / f"{dataset}-{size}.yaml"


def check_same_data(tuned: Path, base: Path | None) -> None:
    """Refuse a tuned file that was searched on other data than the experiment file names: own data have any name.

    They may differ in settings that the method's sweep file searches.

    Args:
        tuned: the file.
        base: the experiment file, if there is one.

    Raises:
        UserError: it was.
    """
    was, now = (settings({"data": (read_yaml(file) or {}).get("data") or {}}) for file in (tuned, base or tuned))
    space = paths.found(paths.sweeps() / f"{tuned.parents[1].name}.yaml")
    axes = read_search(space).space if space.is_file() else ()
    searched = {each for key in axes for each in (*was, *now) if f"{each}.".startswith(f"{key}.")}
    if found := difference(was, now, {*searched, *(f"data.{each}" for each in OF_BATCHES)}):
        raise UserError(f"{tuned} was searched with {found}: move it away, and search again.")


OF_BATCHES = ("seed", "batch_size", "drop_last", "per_label", "tokens", "image_scaling", "text_scaling")  # not data


class Run(NamedTuple):
    """One run of a grid: arguments for `XmodalCLI`, and what they resolve to."""

    arguments: tuple[str, ...]
    folder: Path
    configuration: str
    setup_hash: str
    own_code: tuple[tuple[str, str], ...] = ()
    trials: int | None = None

    def record(self) -> Record | None:
        """What the run left, if it was evaluated under this very configuration, by these files of one's own."""
        found = (each for each in read_results(self.folder) if is_of(each, self.configuration, dict(self.own_code)))
        kept = (each for each in found if "test/map" in each["metrics"] and has_queries(each))
        return next((renewed(each, self.trials) for each in kept), None)


def has_queries(record: Record) -> bool:
    """Whether the values of each query lie beside a record, without which no lead of it can be tested."""
    return is_zipfile(Path(record["path"]).with_name("evaluation.npz"))


class Grid:
    """Runs of every row under every seed.

    Args:
        rows: arguments for `XmodalCLI` by the row's name.
        seeds: separated by commas.
        pool: workers that run what is missing.

    Raises:
        UserError: a number is none, a configuration is refused, or two runs would share a folder.
    """

    def __init__(self, rows: Mapping[str, Sequence[str]], seeds: str, pool: Pool) -> None:
        self.pool, self.seeds = pool, whole_list("SEEDS", seeds, 0, MAX_SEED)
        self.rows: dict[str, list[Run]] = {}
        self.labels: dict[Run, str] = {}
        setups: dict[tuple[str, int], Run] = {}
        for name, row in rows.items():
            for seed in self.seeds:
                run = _resolved(row, seed)
                run = setups.setdefault((run.setup_hash, seed), run)  # rows that differ in name only share their runs
                self.rows.setdefault(name, []).append(run)
                self.labels.setdefault(run, f"{name}, seed {seed}")
        folders = [run.folder for run in self.labels]
        if twice := {str(folder) for folder in folders if folders.count(folder) > 1}:
            raise UserError(f"several runs would share the folder {', '.join(sorted(twice))}: give each a name.")
        self.folder = folders[0].parents[1]  # runs/<method>/<dataset>

    def setups(self) -> dict[str, Setup]:
        """Run what is missing; the runs of every row, in the order of the seeds.

        Raises:
            UserError: another grid is at work here, the folder cannot be written, runs failed (the others end first),
                the data have changed since a run that would be used again, or a folder holds another run.
        """
        with _alone(self.folder):
            there = [(run, run.record()) for run in self.labels]
            missing = [run for run, record in there if record is None]
            for run in missing:
                told = OVERWRITE in run.arguments
                leftovers(run.folder, parse_yaml(run.configuration, "config"), overwrite=told, several=True)
            if kept := next((record for _, record in there if record), None):  # the others are compared with it
                check_data(kept)
            failed = self._run(missing) if missing else []
        if failed:
            raise UserError(
                f"{len(failed)} of {len(self.labels)} runs failed: {'; '.join(failed)}. The reasons are above. "
                "The same command runs them again, and them only."
            )
        found = {name: Setup(tuple(run.record() or {} for run in runs)) for name, runs in self.rows.items()}
        first, *others = (record for setup in found.values() for record in setup.records)
        for record in others:
            if mixed([first, record]):
                one, two = (Path(each["path"]).parent for each in (first, record))
                raise UserError(f"{one} and {two} are of other data: remove the one on older data, and run again.")
        return found

    def _run(self, missing: Sequence[Run]) -> list[str]:
        """Run them side by side; the labels of those that failed."""
        from xmodal.studies.trial import run_whole

        failed: list[str] = []
        total, done = len(self.labels), len(self.labels) - len(missing)
        sys.stderr.write(f"{done} of {total} runs are done\n")
        tasks = deque[Task]((run_whole, (run.arguments, self.pool.devices)) for run in missing)
        runs = {run.arguments: run for run in missing}
        with bar(total=total, initial=done, unit="run") as shown, closing(self.pool.run(tasks)) as outcomes:
            for (_, (arguments, _)), outcome in filter(None, outcomes):
                run = runs[arguments]
                if isinstance(outcome, Exception):
                    failed.append(self.labels[run])
                    shown.write(f"{self.labels[run]} failed: {outcome}", file=sys.stderr)
                elif (record := run.record()) is None:
                    failed.append(self.labels[run])
                    shown.write(f"{self.labels[run]} failed: its files were edited meanwhile", file=sys.stderr)
                else:
                    shown.write(f"{self.labels[run]}: mAP {record['metrics']['test/map']:.4f}", file=sys.stderr)
                shown.update()
        return failed


def origin(setups: Iterable[Setup]) -> tuple[str, ...]:
    """Notes of a table: seeds, queries, and the commits and versions that the runs come from."""
    records = [record for setup in setups for record in setup.records]
    trained = [each for record in records for each in (*record.get("earlier", ()), record)]
    seeds = ", ".join(map(str, dict.fromkeys(record["seed"] for record in records)))
    commits = sorted(set(map(code_of, trained)))
    return (
        f"Mean +- sample deviation over seeds {seeds}; {records[0]['split_sizes']['query']} queries.",
        f"Commit {', '.join(commits)} (+: with uncommitted changes).",
        *filter(None, [mixed_sources(records)]),
    )


def _resolved(row: Sequence[str], seed: int) -> Run:
    from xmodal.cli import Parsed

    arguments = (*row, f"--seed_everything={seed}")
    parsed = Parsed(arguments)
    own_code = tuple(parsed.own_code.items())
    return Run(arguments, parsed.folder, parsed.yaml, parsed.setup_hash, own_code, parsed.given.trials)


def check_data(record: Record) -> None:
    """Refuse to use a run again whose data have changed since.

    Raises:
        UserError: they have.
    """
    if key := changed_data(record):
        folder = Path(record["path"]).parent
        raise UserError(f"the data have changed since {folder} ({key}): remove the folder, and run again.")


def mixed(records: Sequence[Record]) -> bool:
    """Whether some runs are of different data; older records do not say all of them."""
    return any(len({each.get(key) for each in records} - {None}) > 1 for key in DATA)


def check_trial(trial: optuna.Trial, path: Path) -> None:
    """A trial is of the data of those that have ended before it, but for what the space says of data.

    Args:
        trial: that has been trained.
        path: of its record.

    Raises:
        UserError: the data were edited meanwhile.
    """

    def of(params: Mapping[str, object]) -> dict[str, object]:
        return {k: v for k, v in params.items() if k.startswith("data.") and k.removeprefix("data.") not in OF_BATCHES}

    for each in trial.study.get_trials(deepcopy=False, states=DONE):
        before = record_of(each) if "path" in each.user_attrs and of(each.params) == of(trial.params) else None
        if before and before.is_file():
            if mixed([read_result(before), read_result(path)]):
                raise UserError(f"the data of {trial.study.study_name} were edited meanwhile: restore them, to go on.")
            break


Known = dict[str, tuple[Record, set[str]]]  # data by what is asked of them: a description, the inputs that need no word


def changed_data(record: Record, known: Known | None = None) -> str | None:
    """In what the data of a run have changed since, a key of its record; data that are gone tell nothing.

    Other inputs from the same data are told only: encoded anew on another machine, the last bits may differ.

    Args:
        record: of the run.
        known: what is found out; records of many methods share it.
    """
    from xmodal.data import CrossModalDataModule
    from xmodal.keys import built

    known = {} if known is None else known
    here: Record = {}
    told = set[str]()
    with suppress(UserError, OSError, KeyError, ImportError):
        config = read_yaml(Path(record["path"]).with_name("config.yaml"))["data"]
        asked = {key: value for key, value in config["init_args"].items() if key not in OF_BATCHES}
        data = {key: config[key] for key in ("class_path", "init_args")}
        if (text := str((config["class_path"], asked))) not in known:
            here = built(CrossModalDataModule, data).describe()
            known[text] = here, {here["inputs_hash"]}
        here, told = known[text]
    if here and (was := str(record.get("inputs_hash", here["inputs_hash"]))) not in told:
        told.add(was)
        folder = Path(record["path"]).parent
        sys.stderr.write(f"the inputs are not those of {folder} (inputs_hash {was}, not {here['inputs_hash']})\n")
    return other_data(record, here) if here else None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other grids out of a folder for as long as this process lives."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(folder / ".grid.lock").acquire(timeout=0)
    except Timeout:
        raise UserError(f"another ablate or bits is at work in {folder}: wait for it, or end it.") from None
    except OSError as error:
        raise UserError(
            f"cannot write {folder}: {error.strerror}. Make it writable, or move the suite's folders with XMODAL_HOME."
        ) from error
    with held:
        yield
