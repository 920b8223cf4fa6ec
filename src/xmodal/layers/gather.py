"""One global batch out of the batches of all processes, with gradient."""

from functools import lru_cache
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor


@lru_cache(maxsize=1)
def _hosts(world: dist.ProcessGroup) -> dist.ProcessGroup:
    """A group of all processes of this `world` in which their GPUs take no part."""
    return cast("dist.ProcessGroup", dist.new_group(backend="gloo"))


def _parts(rows: Tensor) -> list[Tensor]:
    """The rows of every process, without gradient; ranks may hold different numbers of rows.

    The hosts tell each other these numbers, so that none waits for its GPU: torchmetrics' `gather_all_tensors` reads
    them back from there, behind a barrier, and a step then takes as long as host and GPU one after the other.

    Args:
        rows: (B, ...) of this process.
    """
    own = torch.tensor(len(rows), device="cpu")
    sizes = [torch.zeros_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, own, group=_hosts(cast("dist.ProcessGroup", dist.group.WORLD)))
    counts = [int(size) for size in sizes]
    padded = rows.new_zeros((max(counts), *rows.shape[1:]))
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return [part[:count] for part, count in zip(parts, counts, strict=True)]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        parts = _parts(rows)
        sizes = [len(part) for part in parts]
        ctx.start, ctx.size = sum(sizes[: dist.get_rank()]), len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:  # noqa: ANN401
        (gradient,) = gradients
        total = gradient.contiguous().clone()
        dist.all_reduce(total)  # what every process's loss asks of these rows
        return total[ctx.start : ctx.start + ctx.size]


def gather_with_gradient(rows: Tensor) -> Tensor:
    """The rows of all processes in rank order, with gradient; ranks may hold different numbers of rows.

    The backward pass sums over the processes and DDP then takes the mean of the parameters' gradients: a loss that
    every process computes from the gathered rows has the gradient that one process would have given it.

    Args:
        rows: (B, ...) of this process.

    Returns:
        (sum of all B, ...).
    """
    return cast("Tensor", _GatherRows.apply(rows))
