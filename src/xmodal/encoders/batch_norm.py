"""Batch normalisation of a trained trunk on several processes: by the statistics of the global batch."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Gather = Callable[[Tensor], Tensor]  # (1, N) of this process -> (processes, N), with gradient


class SharedBatchNorm(nn.BatchNorm2d):
    """What a batch norm computes in one process, to within the order of sums; PyTorch's own is for GPUs only.

    Args:
        norm: of torch, or of timm, which puts an activation behind it; its parameters and buffers are taken over, under
            their names.
        gather: one row of every process.

    Attributes:
        counts: whether what is normalised counts; a process without a pair has a row that does not.
    """

    weight: Tensor | None  # type: ignore[assignment]
    bias: Tensor | None  # type: ignore[assignment]

    def __init__(self, norm: nn.BatchNorm1d | nn.BatchNorm2d, gather: Gather) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine)
        for name, value in (*norm.named_parameters(), *norm.named_buffers(), *norm.named_children()):
            setattr(self, name, value)
        self.gather: Gather = torch.compiler.disable(gather)  # type: ignore[no-untyped-call]
        self.counts = True
        self.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's own name
        """(B, C, ...) normalised."""
        if self.training:
            found = self._by_the_batch(input)
        else:
            buffers = self.running_mean, self.running_var
            found = F.batch_norm(input, *buffers, self.weight, self.bias, eps=self.eps)
        for child in self.children():
            found = child(found)
        return found

    def _by_the_batch(self, some: Tensor) -> Tensor:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        rows = some if some.dtype == torch.float64 else some.float()
        over, shape = [0, *range(2, rows.ndim)], (1, -1, *[1] * (rows.ndim - 2))
        mean = rows.mean(over)
        square = (rows - mean.view(shape)).square().sum(over)
        count = torch.full_like(mean[:1], rows.numel() / rows.shape[1])
        every = self.gather(torch.cat([count, mean, square])[None] * self.counts)
        counts, means, squares = every[:, :1], every[:, 1 : 1 + len(mean)], every[:, 1 + len(mean) :]
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        variance = (squares + counts * (means - mean).square()).sum(0) / total
        with torch.no_grad():
            self.num_batches_tracked += 1
            share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            self.running_mean += share * (mean - self.running_mean)
            self.running_var += share * (variance * total / (total - 1) - self.running_var)
        scale = (variance + self.eps).rsqrt()
        scale = scale if self.weight is None else scale * self.weight
        shift = 0 if self.bias is None else self.bias.view(shape)
        found: Tensor = (rows - mean.view(shape)) * scale.view(shape) + shift
        return found.to(some.dtype)

    @staticmethod
    def count_once(model: nn.Module) -> None:
        """Let running statistics be taken in the forward pass of a model, and not where it is computed again."""
        kept: dict[Any, float] = {}

        def begin(*_: object) -> None:
            for norm, momentum in kept.items():
                norm.momentum = momentum
            kept.clear()

        def end(*_: object) -> None:
            norms = [each for each in model.modules() if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d)]
            if torch.is_grad_enabled():  # without, nothing is computed again
                kept.update({norm: norm.momentum for norm in norms if norm.momentum is not None})
            for norm in kept:
                norm.momentum = 0.0

        model.register_forward_pre_hook(begin)
        model.register_forward_hook(end)

    @classmethod
    def replace_in(cls, model: nn.Module, gather: Gather) -> None:
        """Replace the batch norms of a trunk."""
        from timm.layers import BatchNormAct2d  # type: ignore[attr-defined]

        for parent in list(model.modules()):
            for name, child in list(parent.named_children()):
                known = type(child) in (nn.BatchNorm1d, nn.BatchNorm2d, BatchNormAct2d)  # others compute otherwise
                if known and isinstance(child, (nn.BatchNorm1d, nn.BatchNorm2d)) and child.track_running_stats:
                    setattr(parent, name, cls(child, gather))
