"""One training of a search or of a grid: a trial reports every epoch and may be stopped; a whole run is evaluated."""

import gc
import math
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from statistics import median
from subprocess import Popen
from typing import Any, NamedTuple, cast

import torch
from lightning import Callback, LightningModule, Trainer

from xmodal.batch import Side, rows_of
from xmodal.cli import XmodalCLI
from xmodal.code import check_imported
from xmodal.data import CrossModalDataModule
from xmodal.errors import DivergedError, DoneError, UserError
from xmodal.methods import RetrievalMethod
from xmodal.parent import end_with_parent
from xmodal.records import forget_peak
from xmodal.run import leave_record, train
from xmodal.studies.processes import (
    SpentError,
    TrialDiedError,
    TrialDivergedError,
    TrialError,
    end,
    threads_here,
)
from xmodal.studies.storage import DATABASE_ERRORS

Answer = Callable[[int, float], bool]  # takes an epoch and its val/map, and says whether to stop


class Ended(NamedTuple):
    """How a trial ended: its best value, the path of its record, and whether it was stopped."""

    value: float
    path: str
    stopped: bool


class Report(Callback):
    """After every validation, ask `answer` whether to stop; rank 0 asks for all.

    A study takes milliseconds to store a value, so a thread asks while training goes on, and the answer may come in the
    middle of an epoch. The next value is not stored before, or what a study holds would depend on who is faster. On
    several devices training waits, because all ranks stop in the same step.

    Args:
        answer: None on ranks other than 0.
        thread: in which it is called.
    """

    def __init__(self, answer: Answer | None, thread: ThreadPoolExecutor) -> None:
        self.answer, self.thread = answer, thread
        self.best, self.epochs, self.stopped = -1.0, 0, False
        self.asked: Future[bool] | None = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        self._hear(trainer)
        if self.stopped:
            return
        value = float(trainer.callback_metrics["val/map"])
        self.best, self.epochs = max(self.best, value), trainer.current_epoch + 1
        if self.answer is not None:
            self.asked = self.thread.submit(self.answer, trainer.current_epoch, value)
        if trainer.world_size > 1:
            self._hear(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """See the class."""
        if self.asked is not None and self.asked.done():
            self._hear(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The last answer."""
        self._hear(trainer)

    def _hear(self, trainer: Trainer) -> None:
        """Wait for the answer, if one is to come."""
        asked, self.asked = self.asked, None
        if asked is None and trainer.world_size == 1:
            return
        if trainer.strategy.broadcast(asked is not None and asked.result()):
            self.stopped = trainer.should_stop = True
            trainer.limit_val_batches = 0  # Lightning would validate once more


class QueryLatency(Callback):
    """Takes the time of a query, `value` in milliseconds, when training ends: the model is then on its device still."""

    value = math.nan

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """See the class."""
        self.value = query_latency(cast("RetrievalMethod", pl_module), trainer.datamodule)  # type: ignore[attr-defined]


@contextmanager
def as_if_alone() -> Iterator[None]:
    """Let a training find this process as the first one did, and leave it so."""
    environment = dict(os.environ)
    torch.set_num_threads(threads_here())
    forget_peak()
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(environment)  # W&B that has gone offline may be back
        if "torch._inductor.compile_fx" in sys.modules:  # something was compiled
            torch.compiler.reset()  # after several models it would give up
        gc.collect()
        torch.cuda.empty_cache()


@contextmanager
def with_reasons() -> Iterator[None]:
    """Say in one line, where that is possible, why a training failed.

    Raises:
        TrialError: in place of the training's errors; those of the study's database are not among them.
    """
    try:
        yield
    except DATABASE_ERRORS:
        raise
    except DivergedError as error:
        raise TrialDivergedError(str(error)) from error
    except UserError as error:
        raise TrialError(str(error)) from error
    except torch.OutOfMemoryError as error:
        raise SpentError(f"out of memory: {' '.join(str(error).split())[:200]}") from error
    except TrialError:
        raise
    except Exception as error:
        raise SpentError(traceback.format_exc()) from error


def run_trial(arguments: Sequence[str], devices: int, answer: Answer, *, timed: bool = False) -> Ended:
    """Train under `arguments` with the query set closed, and leave a record.

    Args:
        arguments: for `XmodalCLI`.
        devices: more than one need processes whose command line Lightning can repeat.
        answer: is asked after every epoch whether to stop.
        timed: measure the time of a query as well.

    Raises:
        TrialError: the training failed.
    """
    if devices > 1:
        return Ended(*_elsewhere("timed" if timed else "trial", arguments, answer))
    with as_if_alone(), with_reasons():
        return _trial(arguments, answer, timed=timed)


def run_whole(arguments: Sequence[str], devices: int) -> str:
    """Train, checkpoint and evaluate as `xmodal train` does; the path of the record comes back.

    Raises:
        TrialError: the training failed.
    """
    if devices > 1:
        return str(_elsewhere("run", arguments, lambda *_: False))
    with as_if_alone(), with_reasons():
        return _whole(arguments)


def _whole(arguments: Sequence[str]) -> str:
    """The path of the record, which another command may have left while this one waited for the folder."""
    try:
        return str(train(arguments))
    except DoneError as error:
        return error.path


def _trial(arguments: Sequence[str], answer: Answer | None, *, timed: bool) -> Ended:
    started, latency = time.perf_counter(), QueryLatency()
    with ThreadPoolExecutor(1) as thread:
        report = Report(answer, thread)
        callbacks = [report, latency] if timed else [report]
        with XmodalCLI(arguments, checkpoints=False, callbacks=callbacks) as cli:
            cli.trainer.fit(cli.model, datamodule=cli.datamodule)
            measured = {"val/latency": latency.value} if timed else {}
            epochs = report.epochs if report.stopped else None
            path = leave_record(cli, started, {"val/map": report.best, **measured}, epochs)
    return Ended(report.best, str(path), report.stopped)


def _elsewhere(task: str, arguments: Sequence[str], answer: Answer) -> Any:  # noqa: ANN401 - a tuple or a path
    """Run a task of several devices in processes of its own; its outcome comes back."""
    check_imported(2)
    pipe, theirs = Pipe()
    with theirs:  # and closed, so that a dead process closes the pipe
        words = [sys.executable, "-m", "xmodal", "trial", str(theirs.fileno()), str(os.getpid()), task, *arguments]
        process = Popen(words, pass_fds=[theirs.fileno()], start_new_session=True)
    try:
        while True:
            match pipe.recv():
                case ("epoch", epoch, value):
                    pipe.send(answer(epoch, value))
                case ("done", outcome):
                    process.wait()  # for its own W&B service
                    return outcome
                case error:
                    raise error
    except (EOFError, ConnectionError):
        raise TrialDiedError(f"the trial's process died (exit status {process.wait()})") from None
    finally:
        end(process.pid)  # ranks that outlive their leader as well
        process.wait()
        pipe.close()


def main(argv: Sequence[str]) -> int:
    """`xmodal trial FD PARENT TASK <arguments>`: one training of several devices; FD is its end of the pipe."""
    first = int(os.environ.get("LOCAL_RANK", "0")) == 0
    if first:
        end_with_parent(int(argv[1]))
    pipe, task, arguments = Connection(int(argv[0])) if first else None, argv[2], argv[3:]

    def ask(epoch: int, value: float) -> bool:
        assert pipe is not None
        pipe.send(("epoch", epoch, value))
        return bool(pipe.recv())

    outcome: object
    torch.set_num_threads(threads_here())
    try:
        with with_reasons():
            if task == "run":
                outcome = "done", _whole(arguments)
            else:
                outcome = "done", tuple(_trial(arguments, ask if pipe else None, timed=task == "timed"))
    except TrialError as error:
        outcome = TrialDiedError("a process of the trial was killed") if first and _killed() else error
    if pipe is not None:
        pipe.send(outcome)
    elif isinstance(outcome, SpentError):  # of which the first process hears that a connection was closed
        sys.stderr.write(f"{outcome}\n")
    return 0


def _killed(patience: float = 1) -> bool:
    """Whether a process that this one has started was killed: what they had open between them ends before it does."""
    end_of_patience = time.monotonic() + patience
    with suppress(ChildProcessError):  # there is none
        while time.monotonic() < end_of_patience:
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended and os.WIFSIGNALED(status):
                return True
            if not ended:
                time.sleep(0.05)
    return False


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

    def seconds(side: Side) -> float:
        one = rows_of(query[side], slice(0, 1))
        database = torch.randn(size, model.encode(side, one).shape[1], device=model.device)
        times = []
        for _ in range(repetitions):
            started = time.perf_counter()
            scores = database @ model.encode(side, one)[0].float()
            scores.argsort(descending=True).tolist()  # the list waits for the device
            times.append(time.perf_counter() - started)
        return median(times)

    return 500 * (seconds("image") + seconds("text"))
