"""Methods whose codes of every length come out of one training: runs that differ in `bits` only share it."""

import copy
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from filelock import FileLock

from xmodal.cli import XmodalCLI
from xmodal.errors import UserError
from xmodal.records.record import PER_RUN, read_result
from xmodal.records.setups import other_data
from xmodal.safe_yaml import read_yaml
from xmodal.trainer import started_outside


@contextmanager
def shared_training(cli: XmodalCLI) -> Iterator[Path | None]:
    """The best checkpoint of a finished run of another length, or None where this run has to train itself.

    Runs of other lengths wait meanwhile, so that side by side they do not train the same twice. Processes that torchrun
    or SLURM starts share nothing: they do not wait for the lock, and could find different things.

    Args:
        cli: the run; only methods with `one_training` share anything, and only runs in the suite's own folders.
    """
    shares = cli.model.one_training and not (cli.config.trainer.default_root_dir or started_outside(cli.trainer))
    waits = shares and cli.trainer.is_global_zero
    with FileLock(cli.folder.parents[1] / f".{cli.folder.name}.lock") if waits else nullcontext():
        found = _trained(cli) if shares else None
        if found:
            sys.stderr.write(f"trained already, with codes of another length: {found}\n")
        yield found


def _trained(cli: XmodalCLI) -> Path | None:
    own = _without_length(cli.config_dump)
    for config in sorted(cli.folder.parents[1].glob(f"*/{cli.folder.name}/config.yaml")):
        best = config.parent / "checkpoints" / "best.ckpt"
        if config.parent != cli.folder and best.is_file() and (config.parent / "result.json").is_file():
            try:
                other, record = _without_length(read_yaml(config)), read_result(config.with_name("result.json"))
            except (UserError, KeyError, TypeError, AttributeError):  # damaged: whoever reads its record says so
                continue
            if other == own and _same(cli, record):
                return best
    return None


def _same(cli: XmodalCLI, record: dict[str, Any]) -> bool:
    """Whether a run had the files of one's own, data and inputs that are here now; older records do not say."""
    here = cli.datamodule.describe()
    inputs = record.get("inputs_hash", here["inputs_hash"]) == here["inputs_hash"]
    return inputs and record.get("own_code", cli.own_code) == cli.own_code and not other_data(record, here)


def _without_length(config: dict[str, Any]) -> dict[str, Any]:
    """What a training depends on: all but the length, and how the run is called."""
    called = set(PER_RUN) - {"seed_everything"}
    kept = copy.deepcopy({key: value for key, value in config.items() if key not in called})
    kept["model"]["init_args"].pop("bits")
    return kept
