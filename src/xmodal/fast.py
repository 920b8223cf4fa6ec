"""The fast form of a run that trains trunks on a GPU: chosen by itself, and said in one line."""

import math
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from lightning.pytorch.utilities import rank_zero_only
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from xmodal.cuda_graphs import CudaGraphs, unfit

WORTH = 20  # times a write: an epoch that is longer waits for it


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
        why = unfit(model, trainer, several=trainer.devices not in (1, "1"))
        if not why:
            trainer.callbacks.append(CudaGraphs())
        recorded, words = not why, [*words, f"steps not recorded, because {why}"] if why else words
    words += ["steps recorded as CUDA graphs"] if recorded else []
    words += ["blocks compiled" if trunk.compile else "not compiled, which pays from some 2,000 steps on"]
    plugins = kwargs.get("plugins") or []
    if plugins and isinstance(plugins[-1], CheckpointIO):
        plugins[-1] = Behind(plugins[-1])
        words.append("checkpoints of short epochs written beside the training")
    rank_zero_only(sys.stderr.write)(f"trained trunks on {torch.cuda.get_device_name()}: {'; '.join(words)}\n")


class Behind(CheckpointIO):
    """Writes checkpoints at once where that takes little time beside an epoch, else in a thread beside the training.

    A file that was saved `WORTH` times as long ago as a write takes is written before the training goes on: a kill then
    costs at most the epoch it was in. Shorter epochs go on beside a copy on the device. One file is written at a time,
    and of several states that wait for it the newest: a kill then costs what was trained during two writes, too.

    Args:
        inner: how they are written and read.
    """

    def __init__(self, inner: CheckpointIO) -> None:
        self.inner, self.waiting, self.lock = inner, dict[str, Any](), threading.Lock()
        self.thread, self.writes = ThreadPoolExecutor(1), list[Future[None]]()
        self.seconds, self.saved = 0.0, dict[str, float]()  # what the last write took, and when a file was saved

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: object = None) -> None:  # noqa: ANN401
        """Write it, or keep a copy, to be written."""
        path, now = str(path), time.monotonic()
        behind = now - self.saved.get(path, -math.inf) < WORTH * self.seconds
        self.saved[path] = now
        try:
            copy = apply_to_collection(checkpoint, Tensor, lambda each: each.detach().clone()) if behind else None
        except torch.OutOfMemoryError:
            copy = None
        if copy is None:
            self.teardown()
            self._save(checkpoint, path)
            return
        ready = torch.cuda.Event() if torch.cuda.is_available() else None  # type: ignore[no-untyped-call]
        if ready:
            ready.record()
        with self.lock:
            self.waiting.pop(path, None)  # in the order of the saves: last.ckpt is never newer than best.ckpt
            self.waiting[path] = copy, ready
        self.writes.append(self.thread.submit(self._write))
        while self.writes and self.writes[0].done():
            self.writes.pop(0).result()

    def _write(self) -> None:
        with self.lock:
            taken, self.waiting = self.waiting, {}
        for path, (copy, ready) in taken.items():
            if ready:
                stream: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
                stream.wait_event(ready)
                with torch.cuda.stream(stream):  # not behind the kernels of the training
                    copy = apply_to_collection(copy, Tensor, _on_host)
                stream.synchronize()
            self._save(copy, path)

    def _save(self, checkpoint: dict[str, Any], path: str) -> None:
        started = time.monotonic()
        self.inner.save_checkpoint(checkpoint, path)
        self.seconds = time.monotonic() - started

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        """See `CheckpointIO`; what waits is written first."""
        self.teardown()
        return self.inner.load_checkpoint(path, *args, **kwargs)

    def remove_checkpoint(self, path: Any) -> None:  # noqa: ANN401
        """See `CheckpointIO`; what waits is written first."""
        self.teardown()
        self.inner.remove_checkpoint(path)

    def teardown(self) -> None:
        """Write what waits."""
        while self.writes:
            self.writes.pop(0).result()


def _on_host(tensor: Tensor) -> Tensor:
    if not tensor.is_cuda:
        return tensor
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
