"""A short table of where an epoch's time goes: the longest operations, and the gaps in which the device waits."""

import time
from pathlib import Path

import torch
from lightning import Callback
from torch.profiler import ProfilerActivity, profile

from measuring import device_name, wait

LONGEST = 12
SPANS = ("Optimizer.step#", "nccl:", "DistributedDataParallel.")  # the time of others within them


class Profiled(Callback):
    """Profiles the second epoch of a run and appends a table to a file.

    Device time is the sum over kernels; the rest of the wall time are gaps: the host had not launched the next one.

    Args:
        title: of the table.
        path: of the file.
    """

    def __init__(self, title, path) -> None:
        self.title, self.path, self.gpu = title, Path(path), torch.cuda.is_available()
        self.profile = profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.gpu else [])])

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        """Begin with the second epoch."""
        if trainer.current_epoch == 1:
            wait()
            self.profile.start()
            self.started = time.perf_counter()

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        """End with it."""
        if trainer.current_epoch != 1:
            return
        wait()
        seconds = time.perf_counter() - self.started
        self.profile.stop()
        key = "self_device_time_total" if self.gpu else "self_cpu_time_total"
        events = [
            event
            for event in self.profile.key_averages()
            if not event.key.startswith(SPANS) and (not self.gpu or str(event.device_type).endswith("CUDA"))
        ]
        total = sum(getattr(event, key) for event in events) / 1e6
        lines = [
            f"{self.title}, one epoch of {trainer.num_training_batches} steps; {device_name()}",
            f"wall {seconds:.3f} s under the profiler, of which the device works {total:.3f} s "
            f"({100 * total / seconds:.0f} %) in {sum(event.count for event in events):,} operations",
            *(
                f"  {getattr(event, key) / 1e4 / max(total, 1e-9):5.1f} %  {event.count:>7} x  {event.key[:90]}"
                for event in sorted(events, key=lambda event: -getattr(event, key))[:LONGEST]
            ),
            "",
        ]
        print("\n".join(lines), flush=True)
        with self.path.open("a") as file:
            file.write("\n".join(lines) + "\n")
