"""The folder of a run: what an earlier run left there is removed only where it may be."""

import contextlib
import shutil
from pathlib import Path
from typing import Any

from xmodal.errors import UserError
from xmodal.records.record import PER_RUN, leaves
from xmodal.safe_yaml import read_yaml

LEFTOVERS = ("checkpoints", "metrics", "result.json", "codes.npz", "evaluation.npz", "gallery.png")


def clear(folder: Path, new: Any, *, overwrite: bool) -> None:  # noqa: ANN401 - what a configuration dumps
    """Make room in the folder: remove what an earlier run left there, of this setup unless told otherwise.

    What this very run, on any devices, left when it was interrupted stays. Commands that run many configurations
    own the folders of their variants, and need not be told. Processes that are not started by Lightning come here
    together: what another one removes first is no error.

    Args:
        folder: of the run.
        new: its whole configuration.
        overwrite: remove another configuration's run as well.

    Raises:
        UserError: the folder holds files that no run made, or another configuration's run.
    """
    there = [path for name in LEFTOVERS if (path := folder / name).exists()]
    config = folder / "config.yaml"
    if not config.exists() and not there:
        return
    try:
        before = read_yaml(config) if config.exists() else None
    except UserError:
        before = None
    if not isinstance(before, dict) or not before.keys() >= {*PER_RUN, "model", "data"}:
        raise UserError(f"{folder} holds {(there or [config])[0].name}, which no run here wrote: name another.")
    if _anywhere(before) == _anywhere(new) and not (folder / "result.json").is_file():
        return
    was, now = (dict(leaves(_anywhere(each))) for each in (before, new))
    for key in sorted(was.keys() | now.keys()):
        one, other = (each.get(key, "absent")[:60] for each in (was, now))
        if one != other and key not in PER_RUN and not overwrite:
            raise UserError(
                f"{folder} holds a run with {key.replace('.init_args', '')} {one}, not {other}: give "
                "--variant=NAME to keep both, or --overwrite."
            )
    try:
        for path in there:
            while path.is_dir():
                with contextlib.suppress(FileNotFoundError):
                    shutil.rmtree(path)
            path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot clear the run's folder {folder}: {error}.") from error


def _anywhere(config: Any) -> Any:  # noqa: ANN401 - what a configuration dumps
    """A configuration without the devices it runs on."""
    if not isinstance(config, dict) or not isinstance(config.get("trainer"), dict):
        return config
    return config | {"trainer": config["trainer"] | {"devices": None, "num_nodes": None}}
