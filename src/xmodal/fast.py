"""The fast form of a run that trains trunks on a GPU: chosen by itself, and said in one line."""

import sys
import threading
import time
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from xmodal.cuda_graphs import CudaGraphs

BETWEEN = 30.0  # seconds from one write of checkpoints to the next, at least


def choose(trainer: Any, model: Any, trunk: Any, kwargs: dict[str, Any]) -> None:  # noqa: ANN401 - Lightning's own
    """Give the trainer of a run on a GPU the form that is fastest for trained trunks, unless its keys say otherwise.

    Args:
        trainer: its keys.
        model: the method.
        trunk: the `TrunkTraining` of the data.
        kwargs: further arguments of the trainer; its last plugin writes checkpoints.
    """
    deterministic: Any = torch.utils.deterministic
    deterministic.fill_uninitialized_memory = False  # nothing reads it; filling takes a tenth of a step
    if trunk.sides == "none" or not torch.cuda.is_available() or trainer.accelerator not in ("auto", "gpu", "cuda"):
        return
    words = [f"precision {trainer.precision}"]
    if trainer.precision is None and torch.cuda.is_bf16_supported():
        trainer.precision, words = "bf16-mixed", ["bf16-mixed"]
    recorded = any(isinstance(callback, CudaGraphs) for callback in trainer.callbacks)
    if not recorded and trunk.record:
        why = unfit(trainer, model)
        if not why:
            trainer.callbacks.append(CudaGraphs())
        recorded, words = not why, [*words, f"steps not recorded, because {why}"] if why else words
    words += ["steps recorded as CUDA graphs"] if recorded else []
    words += ["blocks compiled" if trunk.compile else "not compiled, which pays from some 2,000 steps on"]
    plugins = kwargs.get("plugins") or []
    if plugins and isinstance(plugins[-1], CheckpointIO):
        plugins[-1] = Behind(plugins[-1])
        words.append(f"checkpoints written beside the training, every {BETWEEN:.0f} s at most")
    rank_zero_only(sys.stderr.write)(f"trained trunks on {torch.cuda.get_device_name()}: {'; '.join(words)}\n")


def unfit(trainer: Any, model: Any) -> str:  # noqa: ANN401
    """Why the steps of a run cannot be recorded; empty if they can."""
    if not model.automatic_optimization and trainer.devices not in (1, "1"):
        return f"{type(model).__name__} optimises by hand, which is recorded on one device only"
    if trainer.precision == "16-mixed":
        return "16-mixed scales the loss anew in each step"
    return "it adds up gradients of several batches" if trainer.accumulate_grad_batches not in (None, 1) else ""


class Behind(CheckpointIO):
    """Writes checkpoints in a thread, from a copy on the device, while the training goes on.

    Of several states that wait for the same file the newest is written, `BETWEEN` seconds after the last write or when
    the run ends: a kill costs what was trained in that time.

    Args:
        inner: how they are written and read.
    """

    def __init__(self, inner: CheckpointIO) -> None:
        self.inner, self.waiting, self.error = inner, dict[str, Any](), list[BaseException]()
        self.turn, self.ending, self.last = threading.Condition(), False, -BETWEEN
        self.thread: threading.Thread | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: object = None) -> None:  # noqa: ANN401
        """Keep a copy, to be written."""
        self._raise()
        try:
            copy = apply_to_collection(checkpoint, Tensor, lambda each: each.detach().clone())
        except torch.OutOfMemoryError:
            self.inner.save_checkpoint(checkpoint, path)
            return
        ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
        ready.record()
        with self.turn:
            self.waiting[str(path)] = copy, ready
            if self.thread is None:
                self.ending, self.thread = False, threading.Thread(target=self._write, daemon=True)
                self.thread.start()
            self.turn.notify()

    def _write(self) -> None:
        stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        while True:
            with self.turn:
                self.turn.wait_for(self._due, 1.0)
                if not self.waiting and self.ending:
                    return
                if not self._due():
                    continue
                taken, self.waiting = self.waiting, {}
            try:
                for path, (copy, ready) in taken.items():
                    stream.wait_event(ready)
                    with torch.cuda.stream(stream):  # not behind the kernels of the training
                        host = apply_to_collection(copy, Tensor, _on_host)
                    stream.synchronize()
                    self.inner.save_checkpoint(host, path)
            except BaseException as error:  # raised where the run can hear it
                self.error.append(error)
            self.last = time.monotonic()

    def _due(self) -> bool:
        return self.ending or (bool(self.waiting) and time.monotonic() - self.last >= BETWEEN)

    def _raise(self) -> None:
        if self.error:
            raise self.error.pop()

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """See `CheckpointIO`; what waits is written first."""
        self.teardown()
        return self.inner.load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: Any) -> None:  # noqa: ANN401
        """See `CheckpointIO`."""
        with self.turn:
            self.waiting.pop(str(path), None)
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        """Write what waits."""
        if self.thread is not None:
            with self.turn:
                self.ending = True
                self.turn.notify()
            self.thread.join()
            self.thread = None
        self._raise()


def _on_host(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
