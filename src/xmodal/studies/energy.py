"""Energy of GPUs, where their driver tells it."""

import pynvml

from xmodal.studies.processes import visible_gpus


def gpu_energy() -> float | None:
    """Joules that the visible GPUs have used since their driver was loaded.

    Two readings give what was used between them, by whatever ran there.

    Returns:
        None where no GPU is visible, or where the driver has no counter (before Volta).
    """
    try:
        pynvml.nvmlInit()
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(int(name))
            if name.strip().isdecimal()
            else pynvml.nvmlDeviceGetHandleByUUID(name)
            for name in visible_gpus()
        ]
        return sum(map(pynvml.nvmlDeviceGetTotalEnergyConsumption, handles)) / 1000 if handles else None
    except pynvml.NVMLError:
        return None
