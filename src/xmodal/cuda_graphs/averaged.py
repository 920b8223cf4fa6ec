"""Gradients averaged over the processes within a recorded step."""

from itertools import accumulate
from typing import Any

import torch
import torch.distributed as dist
from lightning import LightningModule
from torch import Tensor
from torch.nn import Parameter

BUCKET = 2**24  # gradients that are averaged in one operation, at least


class Averaged:
    """Gradients averaged over the processes in buckets, each as soon as the backward pass has made its part.

    DDP does the same, but reads a step's outputs, which a replayed step has only on the device.

    Args:
        module: whose gradients are averaged.
    """

    def __init__(self, module: LightningModule) -> None:
        self.buckets: list[Bucket] = []
        group = dist.new_group()  # a communicator of its own: what others ask of the default one does not wait for it
        parts: dict[str, list[Parameter]] = {}
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                side = name.split(".")[1] if name.startswith("trunks.") else ""
                parts.setdefault(side, []).append(parameter)
        for parameters in parts.values():  # those of a trunk are made one after the other, on one stream
            some: list[Parameter] = []
            for parameter in reversed(parameters):
                some.append(parameter)
                if sum(map(Tensor.numel, some)) >= BUCKET or parameter is parameters[0]:
                    self.buckets.append(Bucket(some, group))
                    some = []

    def finish(self) -> None:
        """Wait, on the device, until all are averaged."""
        for bucket in self.buckets:
            bucket.finish()


class Bucket:
    """Some gradients that are averaged in one operation.

    Args:
        parameters: whose gradients.
        group: of the processes.
    """

    def __init__(self, parameters: list[Parameter], group: Any) -> None:  # noqa: ANN401 - torch has no public type
        self.parameters, self.group, self.left = parameters, group, len(parameters)
        self.work: Any = None
        size, first = sum(map(Tensor.numel, parameters)), parameters[0]
        self.buffer = torch.zeros(size, dtype=first.dtype, device=first.device)
        starts = [0, *accumulate(map(Tensor.numel, parameters))]
        self.views = [
            self.buffer.as_strided(parameter.shape, parameter.stride(), start)
            for parameter, start in zip(parameters, starts, strict=False)
        ]
        for parameter in parameters:
            parameter.register_post_accumulate_grad_hook(self._made)  # type: ignore[no-untyped-call]

    def _made(self, _: Tensor) -> None:
        self.left -= 1
        if not self.left:
            self._send()

    def _send(self) -> None:
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in self.parameters]
        gradients = [
            g if g.stride() == p.stride() else torch.empty_like(p).copy_(g)
            for g, p in zip(gradients, self.parameters, strict=True)
        ]
        torch.cat([gradient.as_strided((gradient.numel(),), (1,)) for gradient in gradients], out=self.buffer)
        for parameter, view in zip(self.parameters, self.views, strict=True):
            parameter.grad = view
        self.work = dist.all_reduce(self.buffer, dist.ReduceOp.AVG, group=self.group, async_op=True)

    def finish(self) -> None:
        """Wait, on the device, until they are averaged; those that the loss did not reach count as zero."""
        if self.left:
            self._send()
        if self.work is not None:
            self.work.wait()
        self.left, self.work = len(self.parameters), None
