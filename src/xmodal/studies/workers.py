"""`WORKERS=` of a command line: how many trainings go side by side, by word or by what the machine holds."""

import argparse
import sys
from pathlib import Path

from xmodal.run import whole
from xmodal.safe_yaml import read_yaml
from xmodal.studies.gpus import free_gpu_memory
from xmodal.studies.processes import Pool, device_groups, share_of_cores

AUTO = "auto"
GPU_MEMORY = 4 * 2**30  # bytes of a training on frozen features, CUDA's own share included
HOST_MEMORY = 2 * 2**30  # bytes of the process of a training


def pool_of(options: argparse.Namespace, sharing: int = 1) -> Pool:
    """Workers for the trainings of a command line.

    Args:
        options: `workers`, `devices`, and `base`, an experiment file, where there is one for all trainings.
        sharing: commands on this machine that share its cores.

    Raises:
        UserError: a number is none.
    """
    workers, devices = check_workers(options), device_count(options)
    if workers is None:
        workers = _auto(devices, sharing, getattr(options, "base", None))
        sys.stderr.write(f"WORKERS=auto: {workers}, for the cores and the free memory of this machine\n")
    return Pool(workers, devices, sharing)


def check_workers(options: argparse.Namespace) -> int | None:
    """WORKERS, None for `auto`; a slip in it or in DEVICES is said before anything is started.

    Raises:
        UserError: a number is none.
    """
    device_count(options)
    return None if options.workers == AUTO else whole("WORKERS", options.workers, 1, 256)


def device_count(options: argparse.Namespace) -> int:
    """DEVICES: of each training.

    Raises:
        UserError: it is no number.
    """
    return whole("DEVICES", options.devices or "1", 1, 1024)


def _auto(devices: int, sharing: int, base: Path | None) -> int:
    """As many as there are cores and free memory for; one for each group of GPUs where trunks are trained."""
    workers = min(share_of_cores(devices * sharing), _free_host_memory() // sharing // HOST_MEMORY)
    groups = [group for group in dict.fromkeys(device_groups(256, devices)) if group is not None]
    if groups:
        free = free_gpu_memory()
        held = sum(min(free.get(name, 0) for name in group.split(",")) // GPU_MEMORY for group in groups)
        workers = min(workers, len(groups) if base and _trains_trunks(base) else held)
    return max(workers, 1)


def _trains_trunks(base: Path) -> bool:
    content = read_yaml(base)
    data = content.get("data") if isinstance(content, dict) else None
    return isinstance(data, dict) and bool((data.get("init_args") or {}).get("trunk"))


def _free_host_memory() -> int:
    """Bytes; memory of which nothing is known is taken for enough."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        return int(lines["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return 2**50
