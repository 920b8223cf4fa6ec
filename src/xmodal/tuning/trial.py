"""One trial or run, in a process of the sweep: trains, reports every epoch through a pipe, and asks whether to go on.

The process never touches the study: the parent does. A pipe that closes without `done` is a process that died.
"""

import gc
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from statistics import median
from typing import cast

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from xmodal.batch import Features, rows_of
from xmodal.cli import XmodalCLI
from xmodal.data import CrossModalDataModule
from xmodal.errors import UserError
from xmodal.methods import RetrievalMethod
from xmodal.records import forget_peak
from xmodal.run import leave_record, train
from xmodal.tuning.worker import Task, trial_threads


class Report(Callback):
    """After every validation, send the epoch and `val/map`, and stop if the answer says so; rank 0 speaks for all.

    Training goes on until the answer is there. The next value is not sent before, or what the study holds would depend
    on who is faster.

    Args:
        connection: to the sweep; None on ranks other than 0.
        patient: wait for the answer, as several devices do anyhow: a run may be ended by it, but not while it writes a
            checkpoint.
    """

    def __init__(self, connection: Connection | None, *, patient: bool) -> None:
        self.connection, self.patient = connection, patient
        self.best, self.epochs, self.waiting, self.pruned = -1.0, 0, False, False

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End a training whose loss was not finite: after a step the parameters are not, and alike on every rank."""
        finite = [parameter.detach().isfinite().all() for parameter in pl_module.parameters()]
        if finite and not torch.stack(finite).all():
            raise FloatingPointError(f"the parameters are not finite after epoch {trainer.current_epoch + 1}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        self._hear(trainer)
        if self.pruned:
            return
        value = float(trainer.callback_metrics["val/map"])
        if not math.isfinite(value):
            raise FloatingPointError(f"val/map is {value} in epoch {trainer.current_epoch + 1}")
        self.best, self.epochs = max(self.best, value), trainer.current_epoch + 1
        self.waiting = True
        with _gone_with_the_sweep():
            if self.connection is not None:
                self.connection.send(("epoch", trainer.current_epoch, value))
        if self.patient or trainer.world_size > 1:  # all ranks stop in the same step
            self._hear(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """See the class."""
        if self.waiting and self.connection is not None and self.connection.poll():
            self._hear(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last answer."""
        self._hear(trainer)

    def _hear(self, trainer: Trainer) -> None:
        """Wait for the answer, if there is one to come."""
        if not self.waiting:
            return
        stop, self.waiting = False, False
        with _gone_with_the_sweep():
            if self.connection is not None:
                stop = self.connection.recv()
        if trainer.strategy.broadcast(stop):
            self.pruned = trainer.should_stop = True
            trainer.limit_val_batches = 0  # Lightning would validate once more


@contextmanager
def _gone_with_the_sweep() -> Iterator[None]:
    """A trial whose sweep has ended ends without a word."""
    try:
        yield
    except (EOFError, ConnectionError):
        sys.exit(1)


class QueryLatency(Callback):
    """Takes the time of a query, `value` in milliseconds, when training ends: the model is then on its device still."""

    value = math.nan

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        self.value = query_latency(cast("RetrievalMethod", pl_module), trainer.datamodule)  # type: ignore[attr-defined]


def serve(connection: Connection, visible: str | None) -> None:
    """Run one trial after another, each as if it were the first of its process, until the sweep closes the pipe.

    Args:
        connection: to the parent.
        visible: CUDA devices of this process, as `CUDA_VISIBLE_DEVICES` has them; None leaves them as they are.
    """
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible  # before anything asks CUDA
    environment = dict(os.environ)
    with suppress(EOFError, ConnectionError, KeyboardInterrupt):  # Ctrl-C is for the command, which ends its forks
        while True:
            arguments, task, threads = connection.recv()
            forget_peak()
            run(connection, arguments, task, threads)
            os.environ.clear()
            os.environ.update(environment)  # W&B that has gone offline may be back
            if "torch._inductor.compile_fx" in sys.modules:  # something was compiled
                torch.compiler.reset()  # after several models it would give up
            gc.collect()
            torch.cuda.empty_cache()


def run(connection: Connection | None, arguments: Sequence[str], task: Task = "trial", threads: int = 1) -> None:
    """Train under `arguments`; leave a record; send `done`, `diverged` or `failed`.

    Args:
        connection: to the parent; None on ranks other than 0.
        arguments: for `XmodalCLI`.
        task: a `run` is checkpointed and evaluated on the query set; a trial leaves the query set closed, and a `timed`
            one takes the time of a query.
        threads: of the CPU; trials side by side share the cores.
    """
    started = time.perf_counter()
    report, latency = Report(connection, patient=task == "run"), QueryLatency()
    try:
        torch.set_num_threads(threads)
        if task == "run":
            path = train(arguments, callbacks=[report])
        else:
            callbacks = [report, latency] if task == "timed" else [report]
            with XmodalCLI(arguments, checkpoints=False, callbacks=callbacks) as cli:
                cli.trainer.fit(cli.model, datamodule=cli.datamodule)
                measured = {"val/latency": latency.value} if task == "timed" else {}
                ended = report.epochs if report.pruned else None
                path = leave_record(cli, started, {"val/map": report.best, **measured}, ended)
    except UserError as error:
        _send(connection, ("failed", str(error)))
    except FloatingPointError as error:
        _send(connection, ("diverged", str(error)))
    except torch.OutOfMemoryError as error:
        _send(connection, ("failed", f"out of memory: {' '.join(str(error).split())[:200]}"))
    except Exception:
        _send(connection, ("failed", traceback.format_exc()))
    else:
        _send(connection, ("done", report.best, str(path)))


@torch.inference_mode()
def query_latency(model: RetrievalMethod, data: CrossModalDataModule, repetitions: int = 9) -> float:
    """Milliseconds from the features of one query to the order of as many items as the validation database has.

    Args:
        model: a trained method.
        data: its data; only the validation pairs are read.
        repetitions: of which the median is taken, for each side; the mean of both sides is the answer.
    """
    model.eval()
    query, size = (
        model.with_features(next(iter(data.batches("val_query")))),
        data.describe()["split_sizes"]["val_database"],
    )

    def seconds(encode: Callable[[Features], Tensor], one: Features) -> float:
        database = torch.randn(size, encode(one).shape[1], device=model.device)
        times = []
        for _ in range(repetitions):
            started = time.perf_counter()
            (database @ encode(one)[0].float()).argsort(descending=True).tolist()  # the list waits for the device
            times.append(time.perf_counter() - started)
        return median(times)

    image = seconds(model.encode_image, rows_of(query["image"], slice(0, 1)))
    return 500 * (image + seconds(model.encode_text, rows_of(query["text"], slice(0, 1))))


def _send(connection: Connection | None, message: tuple[object, ...]) -> None:
    if connection is not None:
        connection.send(message)


def main(argv: Sequence[str]) -> int:
    """`xmodal trial FD TASK <arguments>`: a fresh process, as DDP needs it; FD is its end of the pipe."""
    leader = int(os.environ.get("LOCAL_RANK", "0")) == 0
    run(Connection(int(argv[0])) if leader else None, argv[2:], cast("Task", argv[1]), trial_threads())
    return 0
