"""A search in several jobs: of SLURM where it is installed, else processes of this machine; through submitit."""

from collections.abc import Callable, Sequence

import yaml

from xmodal import paths
from xmodal.errors import UserError
from xmodal.studies.samplers import EXTRA

NO_LIMIT = 365 * 24 * 60  # minutes; submitit ends a job of this machine after two, and one of SLURM after five


def run_jobs(
    search: Callable[[Sequence[str]], None], argv: Sequence[str], jobs: int, settings: Sequence[str], *, shared: bool
) -> None:
    """Submit jobs that work on one study, and wait for them; their logs lie in `runs/jobs`.

    Args:
        search: what a job runs, with `argv`.
        argv: of `xmodal sweep`.
        jobs: how many.
        settings: `NAME=VALUE` of submitit's executor: `timeout_min=600`, `gpus_per_node=1`, `slurm_partition=gpu`.
        shared: whether the study lies in a database that other machines reach.

    Raises:
        UserError: submitit is missing or refuses a setting, SLURM without a shared database or a time, or every job
            failed.
    """
    try:
        import submitit
    except ImportError as error:
        raise UserError(f"JOBS needs submitit, which is not installed: {EXTRA}.") from error
    given = dict(setting.partition("=")[::2] for setting in settings)
    executor = submitit.AutoExecutor(folder=paths.runs() / "jobs" / "%j")
    if executor.cluster == "slurm" and not shared:
        raise UserError("SLURM's jobs run on several machines: give the study a database with STORAGE=postgresql://...")
    limit = {} if executor.cluster == "slurm" else {"timeout_min": NO_LIMIT}
    if not limit and not given.keys() & {"timeout_min", "slurm_time"}:
        raise UserError(
            "SLURM ends a job that submitit gives no time after 5 minutes: add JOB='timeout_min=600' or so."
        )
    try:
        executor.update_parameters(**limit | {name: yaml.safe_load(value) for name, value in given.items()})
    except (NameError, TypeError, ValueError, AssertionError) as error:
        raise UserError(f"JOB is {' '.join(settings)!r}, which submitit refuses: {error}") from error
    running = [executor.submit(search, list(argv)) for _ in range(jobs)]
    try:
        failures = [job.exception() for job in running]  # waits
    except KeyboardInterrupt:
        for job in running:
            job.cancel(check=False)
        raise
    if all(failures):
        raise UserError(f"every job failed; the last says: ...{' '.join(str(failures[-1]).split())[-500:]}")
