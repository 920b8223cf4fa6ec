"""Energy of GPUs, where their driver tells it."""

import os

import pynvml


def gpu_energy() -> float | None:
    """Joules that the visible GPUs have used since their driver was loaded.

    Two readings give what was used between them, by whatever ran there.

    Returns:
        None where no GPU is visible, or where the driver has no counter (before Volta).
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        pynvml.nvmlInit()
        names = range(pynvml.nvmlDeviceGetCount()) if visible is None else filter(None, visible.split(","))
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(int(name))
            if str(name).strip().isdecimal()
            else pynvml.nvmlDeviceGetHandleByUUID(name)
            for name in names
        ]
        return sum(map(pynvml.nvmlDeviceGetTotalEnergyConsumption, handles)) / 1000 if handles else None
    except pynvml.NVMLError:
        return None
