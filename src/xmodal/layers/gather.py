"""A global batch on several processes: which rows a process holds, and one batch out of all rows, with gradient."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor


@lru_cache(maxsize=1)
def _hosts(world: dist.ProcessGroup) -> dist.ProcessGroup:
    """A group of all processes of this `world` in which their GPUs take no part."""
    return cast("dist.ProcessGroup", dist.new_group(backend="gloo"))


@lru_cache(maxsize=1)
def _devices(world: dist.ProcessGroup) -> dist.ProcessGroup:
    """A group of all processes of this `world`, so that what others ask of the default one does not wait for it."""
    return cast("dist.ProcessGroup", dist.new_group())


@dataclass
class Shard:
    """What a process holds of the global batch: every `world`-th row from its rank on, which may be none.

    Attributes:
        rank: this process.
        world: number of processes.
        size: rows of the global batch.
    """

    rank: int = 0
    world: int = 1
    size: int = 0

    def count(self, rows: int) -> None:
        """Learn the size of the global batch from the number of rows that each process holds.

        The hosts tell each other, so that none waits for its GPU.
        """
        self.size = rows
        if self.world > 1:
            total = torch.tensor(rows, device="cpu")
            dist.all_reduce(total, group=_hosts(cast("dist.ProcessGroup", dist.group.WORLD)))
            self.size = int(total)

    def of(self, rows: Tensor, dim: int = 0) -> Tensor:
        """This process's part of what was made for the global batch.

        Args:
            rows: as many as the global batch has, along `dim`.
            dim: that counts them.
        """
        return rows if self.world == 1 else rows[(slice(None),) * dim + (slice(self.rank, None, self.world),)]


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, shard: Shard) -> Tensor:  # noqa: ANN401 - torch's context
        ctx.shard = shard
        padded = rows.new_zeros((-(-shard.size // shard.world), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in range(shard.world)]
        dist.all_gather(parts, padded, group=_devices(cast("dist.ProcessGroup", dist.group.WORLD)))
        return torch.stack(parts, 1).flatten(0, 1)[: shard.size]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (gradient,) = gradients
        total = gradient.contiguous().clone()
        own = _devices(cast("dist.ProcessGroup", dist.group.WORLD))
        dist.all_reduce(total, group=own)  # what every process's loss asks of these rows
        return ctx.shard.of(total), None


def gather_with_gradient(rows: Tensor, shard: Shard) -> Tensor:
    """The rows of all processes in the order of the global batch, with gradient.

    The backward pass sums over the processes and DDP then takes the mean of the parameters' gradients: a loss that
    every process computes from the gathered rows has the gradient that one process would have given it.

    Args:
        rows: (B, ...) of this process.
        shard: which of the global batch's rows they are.

    Returns:
        (size of the global batch, ...).
    """
    return cast("Tensor", _GatherRows.apply(rows, shard))


def one_row_each(shard: Shard) -> Callable[[Tensor], Tensor]:
    """What gathers (1, D) of every process into (processes, D), with gradient, as `gather_with_gradient` does."""
    return partial(gather_with_gradient, shard=Shard(shard.rank, shard.world, size=shard.world))
