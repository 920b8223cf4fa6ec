"""One trial, in its own process: trains, reports every epoch through a pipe, and asks whether to go on.

The process never touches the study: the parent does. A pipe that closes without `done` is a trial that died.
"""

import os
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch
from lightning import Callback, LightningModule, Trainer

from xmodal.cli import XmodalCLI
from xmodal.errors import UserError
from xmodal.run import leave_record


class Report(Callback):
    """After every validation, send the epoch and `val/map`, and stop if the answer says so; rank 0 speaks for all.

    Args:
        connection: to the sweep; None on ranks other than 0.
    """

    def __init__(self, connection: Connection | None) -> None:
        self.connection, self.best, self.pruned = connection, -1.0, False

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        value = float(trainer.callback_metrics["val/map"])
        self.best = max(self.best, value)
        stop = False
        if self.connection is not None:
            self.connection.send(("epoch", trainer.current_epoch, value))
            stop = self.connection.recv()  # EOFError if the sweep is gone: then so is this trial
        if trainer.strategy.broadcast(stop):
            self.pruned = trainer.should_stop = True


def run(connection: Connection | None, arguments: Sequence[str]) -> None:
    """Train under `arguments` with the query set closed; leave a record of the validation; send `done` or `failed`."""
    started = time.perf_counter()
    report = Report(connection)
    try:
        if not torch.cuda.is_available():
            torch.set_num_threads(1)  # several trials share the cores; more threads make small models slower
        with XmodalCLI(arguments, checkpoints=False, callbacks=[report]) as cli:
            cli.trainer.fit(cli.model, datamodule=cli.datamodule)
            path = leave_record(cli, started, {"val/map": report.best})
    except UserError as error:
        _send(connection, ("failed", str(error)))
    except EOFError:
        sys.exit(1)  # the sweep is gone
    except Exception:
        _send(connection, ("failed", traceback.format_exc()))
    else:
        _send(connection, ("done", report.best, str(path)))


def _send(connection: Connection | None, message: tuple[object, ...]) -> None:
    if connection is not None:
        connection.send(message)


def main(argv: Sequence[str]) -> int:
    """`xmodal trial FD <arguments>`: a trial in a fresh process, as DDP needs it; FD is its end of the pipe."""
    leader = int(os.environ.get("LOCAL_RANK", "0")) == 0
    run(Connection(int(argv[0])) if leader else None, argv[1:])
    return 0
