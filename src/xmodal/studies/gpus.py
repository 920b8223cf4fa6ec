"""What the driver of the visible GPUs tells: the energy that they have used, and their free memory."""

from collections.abc import Callable
from typing import Any

import pynvml

from xmodal.studies.processes import visible_gpus


def _asked(ask: Callable[[Any], int]) -> dict[str, int]:
    """An answer of the driver for each visible GPU, by its name; none where there is no driver, or no answer."""
    found = {}
    try:
        pynvml.nvmlInit()
        for name in visible_gpus():
            number = name.strip().isdecimal()
            gpu = pynvml.nvmlDeviceGetHandleByIndex(int(name)) if number else pynvml.nvmlDeviceGetHandleByUUID(name)
            found[name] = ask(gpu)
    except pynvml.NVMLError:
        return {}
    return found


def free_gpu_memory() -> dict[str, int]:
    """Bytes, by the names in `visible_gpus`; CUDA does not begin by it."""
    return _asked(lambda gpu: int(pynvml.nvmlDeviceGetMemoryInfo(gpu).free))


def gpu_energy() -> float | None:
    """Joules that the visible GPUs have used since their driver was loaded.

    Two readings give what was used between them, by whatever ran there.

    Returns:
        None where no GPU is visible, or where the driver has no counter (before Volta).
    """
    used = _asked(pynvml.nvmlDeviceGetTotalEnergyConsumption)
    return sum(used.values()) / 1000 if used else None
