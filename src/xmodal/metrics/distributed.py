"""Exact merging of metric states and results over processes, with shards of any length, empty ones included."""

from collections.abc import Mapping

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from xmodal.metrics.ranking import Floats

Group = dist.ProcessGroup | None


def processes(group: Group) -> tuple[int, int]:
    """Rank and number of processes; (0, 1) without torch.distributed."""
    if not dist.is_available() or not dist.is_initialized():
        return 0, 1
    return dist.get_rank(group), dist.get_world_size(group)


def gather_rows(
    fields: Mapping[str, Tensor | None], types: Mapping[str, torch.dtype], group: Group
) -> dict[str, Tensor]:
    """Concatenate the rows (B, columns) of every process, in the order of the ranks.

    Args:
        fields: the tensors of this process; None (or zero rows) where it holds nothing of a field.
        types: type of each field, the same names in the same order on every process.
        group: process group; None is the world.

    Returns:
        The fields that at least one process holds.

    Raises:
        ValueError: processes hold rows of different widths.
    """
    held = {name: None if field is None or not len(field) else field for name, field in fields.items()}
    _, world = processes(group)
    if world == 1:
        return {name: field for name, field in held.items() if field is not None}
    device = _home(group)
    shapes = torch.tensor(
        [[0, -1] if field is None else list(field.shape) for field in held.values()], dtype=torch.int64, device=device
    )
    every = [torch.empty_like(shapes) for _ in range(world)]
    dist.all_gather(every, shapes, group=group)
    merged = {}
    for place, (name, dtype) in enumerate(types.items()):
        rows = [int(shape[place, 0]) for shape in every]
        widths = {int(shape[place, 1]) for shape in every} - {-1}
        if len(widths) > 1:
            raise ValueError(f"{name} differs in width between processes: {sorted(widths)}")
        if not widths:
            continue
        padded = torch.zeros(max(rows), widths.pop(), dtype=dtype, device=device)
        own = held[name]
        if own is not None:
            padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in range(world)]
        dist.all_gather(parts, padded, group=group)
        merged[name] = torch.cat([part[:count] for part, count in zip(parts, rows, strict=True)])
    return merged


def gather_values(values: Mapping[str, Floats], group: Group) -> dict[str, Floats]:
    """Concatenate the values (Q,) of every process, in the order of the ranks."""
    rows = torch.from_numpy(np.column_stack(list(values.values())))
    merged = gather_rows({"values": rows}, {"values": torch.float64}, group)["values"]
    return dict(zip(values, merged.cpu().numpy().T, strict=True))


def sum_over_processes(total: Tensor, group: Group) -> Tensor:
    """Sum of a float64 tensor of the same shape over all processes."""
    if processes(group)[1] > 1:
        total = total.to(_home(group)).contiguous()  # NCCL asks for it
        dist.all_reduce(total, group=group)
    return total.cpu()


def _home(group: Group) -> torch.device:
    """The device that the backend of the group communicates from."""
    return (
        torch.device("cuda", torch.cuda.current_device()) if "nccl" in dist.get_backend(group) else torch.device("cpu")
    )


def rows_by_index(index: Tensor, label: Tensor) -> Tensor:
    """Rows in the order of the dataset index (N,), the first of each: what a padding sampler repeats is dropped.

    Raises:
        ValueError: rows of one index differ in their labels (N, columns), so that they are several pairs.
    """
    order = index.argsort(stable=True)
    ordered = index[order]
    first = torch.ones_like(ordered, dtype=torch.bool)
    first[1:] = ordered[1:] != ordered[:-1]
    again = (~first).nonzero()[:, 0]
    other = again[(label[order[again]] != label[order[again - 1]]).any(1)]
    if len(other):
        raise ValueError(f"index {int(ordered[other[0]])} has pairs of other labels: give positions in the dataset")
    return order[first]
