"""One global batch out of the batches of all processes, with gradient."""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:  # noqa: ANN401 - torch's context
        parts = gather_all_tensors(rows.contiguous())
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
