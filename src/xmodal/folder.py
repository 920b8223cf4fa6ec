"""The folder of a run: what an earlier run left there is removed only where it may be."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from xmodal.errors import DoneError, UserError
from xmodal.records.record import PER_RUN, is_evaluated, is_of, leaves, read_result
from xmodal.safe_yaml import read_yaml

HELD: dict[Path, int] = {}  # open folders of this process by their paths; a process that ends lets them go
OVERWRITE = "--overwrite"  # an option of commands, no key of the configuration
SHOWN = ("group", "job_type", "save_codes", "gallery")  # how a run is called and shown, nothing of what it computes
LEFTOVERS = ("checkpoints", "metrics", "result.json", "codes.npz", "evaluation.npz", "gallery.png")


def hold(folder: Path, *, wait: bool) -> bool:
    """Keep other runs of this machine out of a folder until `release` or the end of the process; no file says so.

    Args:
        folder: of the run; it is made.
        wait: until another run has ended.

    Returns:
        Whether another run was at work there.

    Raises:
        UserError: another process is at work there, or the folder cannot be made.
    """
    if folder in HELD:
        return False
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"cannot write the run's folder {folder}: {error.strerror}.") from error
    waited = False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not wait:
            os.close(handle)
            raise UserError(
                f"another run is at work in {folder}: wait for it, or give --variant=NAME to keep both."
            ) from None
        fcntl.flock(handle, fcntl.LOCK_EX)
        waited = True
    except OSError:  # a file system without locks
        os.close(handle)
        return False
    HELD[folder] = handle
    return waited


def check_left(folder: Path, configuration: str, code: Mapping[str, str]) -> None:
    """After waiting for a folder: leave the record of this very run, if a command has left it there meanwhile.

    Args:
        folder: of the run.
        configuration: the run's, as text.
        code: files of one's own, as in `is_of`.

    Raises:
        DoneError: it is there.
    """
    path = folder / "result.json"
    if path.is_file() and is_evaluated(record := read_result(path)) and is_of(record, configuration, code):
        raise DoneError(str(path))


def release(folder: Path) -> None:
    """Let a folder go, if it is held."""
    if (handle := HELD.pop(folder, None)) is not None:
        os.close(handle)


def _release_all() -> None:
    for folder in list(HELD):
        release(folder)


os.register_at_fork(after_in_child=_release_all)  # a process that reads pictures may outlive a killed run by seconds


def clear(folder: Path, new: Any, *, overwrite: bool) -> None:  # noqa: ANN401 - what a configuration dumps
    """Make room in the folder: remove what an earlier run left there, of this configuration unless told otherwise.

    Processes that are not started by Lightning come here together: what another one removes first is no error.

    Args:
        folder: of the run.
        new: its whole configuration.
        overwrite: remove another configuration's run as well.

    Raises:
        UserError: the folder holds files that no run made, or another configuration's run.
    """
    try:
        for path in leftovers(folder, new, overwrite=overwrite):
            while path.is_dir():
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(path)
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot clear the run's folder {folder}: {error}.") from error


def leftovers(folder: Path, new: Any, *, overwrite: bool, several: bool = False) -> list[Path]:  # noqa: ANN401
    """What has to be removed before a run, as in `clear`; what this very run left when it was interrupted stays.

    Args:
        folder: see `clear`.
        new: see `clear`.
        overwrite: see `clear`.
        several: whether the command has several runs, so that no name keeps both.

    Raises:
        UserError: see `clear`.
    """
    there = [path for name in LEFTOVERS if (path := folder / name).exists()]
    config = folder / "config.yaml"
    if not config.exists() and not there:
        return []
    try:
        before = read_yaml(config) if config.exists() else None
    except UserError:
        before = None
    if not isinstance(before, dict) or not before.keys() >= {*PER_RUN, "model", "data"}:
        raise UserError(f"{folder} holds {(there or [config])[0].name}, which no run here wrote: name another.")
    now = settings(new)
    found = difference(settings(before), now, SHOWN)
    if not found and not (folder / "result.json").is_file():
        return []
    if found and not overwrite:
        own = now.get("trainer.default_root_dir") == "null"
        way = ("another XMODAL_HOME" if several else "--variant=NAME") if own else "another trainer.default_root_dir"
        raise UserError(f"{folder} holds a run with {found}: give {way} to keep both, or --overwrite.")
    return there


def settings(config: Any) -> dict[str, str]:  # noqa: ANN401 - what a configuration dumps
    """The leaves of a configuration as text, by key, without the devices it runs on."""
    return {key.replace(".init_args", ""): value for key, value in leaves(_anywhere(config))}


def difference(was: Mapping[str, str], now: Mapping[str, str], but: Container[str]) -> str | None:
    """The first of two configurations' settings that differ, in words, such as `model.lr 0.1, not 0.2`.

    Args:
        was: settings of one.
        now: settings of the other.
        but: keys that may differ.
    """
    for key in sorted(was.keys() | now.keys()):
        one, other = (each.get(key, "absent") for each in (was, now))
        if one != other and key not in but:
            return f"{key} {one[-60:]}, not {other[-60:]}"
    return None


def _anywhere(config: Any) -> Any:  # noqa: ANN401 - what a configuration dumps
    """A configuration without the devices it runs on."""
    if not isinstance(config, dict) or not isinstance(config.get("trainer"), dict):
        return config
    return config | {"trainer": config["trainer"] | {"devices": None, "num_nodes": None}}
