"""BertAdam, the optimizer of the CLIP-based hashing methods, whose schedule is part of it."""

import math
from collections.abc import Callable, Iterable
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW

from xmodal.errors import UserError

PIECE = 4096  # numbers of a gradient whose squares are summed at a time
UNCORRECTED = 1e9  # steps after which Adam's bias corrections are 1 in any precision


def warmup_cosine(progress: float, warmup: float) -> float:
    """Share of the learning rate at `progress` in [0, 1]: progress / warmup, then (1 + cos(pi progress)) / 2."""
    return progress / warmup if progress < warmup else 0.5 * (1 + math.cos(math.pi * progress))


class BertAdam(AdamW):
    """Adam without bias correction, with decoupled decay, a gradient clip per tensor, and warm-up with cosine decay.

    Written from the formulas of the releases of DCHMT, DSPH and MITH. The first step has rate 0, and the rate drops a
    little where the warm-up ends, as there. The update is torch's fused AdamW, told that it has made so many steps that
    nothing is left to correct: one kernel instead of a dozen for every tensor.

    Args:
        params: parameters or parameter groups.
        lr: learning rate at full height.
        total_steps: steps of the whole training.
        warmup: share of the steps that warm up, in [0, 1).
        weight_decay: of every tensor, biases and gains included.
        betas: decay rates of both moments.
        eps: added to the root of the second moment.
        max_norm: every tensor's gradient is clipped to this norm by itself.

    Raises:
        UserError: an argument out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        total_steps: int,
        warmup: float = 0.1,
        weight_decay: float = 0.2,
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-6,
        max_norm: float = 1.0,
    ) -> None:
        for name, value, good in (
            ("lr", lr, lr >= 0),
            ("total_steps", total_steps, total_steps >= 1),
            ("warmup", warmup, 0 <= warmup < 1),
        ):
            if not good:
                raise UserError(f"BertAdam: {name} is {value}: lr >= 0, total_steps >= 1 and 0 <= warmup < 1.")
        super().__init__(params, lr, betas, eps, weight_decay, fused=True)
        self._step_supports_amp_scaling = False  # 16-mixed: gradients must be unscaled before they are clipped here
        self._gathered: dict[tuple[int, ...], Gathered] = {}
        own = {"total_steps": total_steps, "warmup": warmup, "max_norm": max_norm, "taken": 0}
        for group in self.param_groups:
            group.update(own, peak=group["lr"])  # `lr` is the rate of the step

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; the closure, where there is one, computes the loss again."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._clip(group)
            group["lr"] = group["peak"] * warmup_cosine(
                min(group["taken"] / group["total_steps"], 1.0), group["warmup"]
            )
            group["taken"] += 1
        super().step()
        return loss

    def _clip(self, group: dict[str, Any]) -> None:
        """Clip every gradient by itself; open the state of a parameter that has its first gradient."""
        trained = [parameter for parameter in group["params"] if parameter.grad is not None]
        for parameter in trained:
            if not self.state[parameter]:
                step = torch.full((), UNCORRECTED, dtype=torch.float32, device=parameter.device)
                self.state[parameter].update(step=step, exp_avg=torch.zeros_like(parameter))
                self.state[parameter]["exp_avg_sq"] = torch.zeros_like(parameter)
        gradients = [cast("Tensor", parameter.grad) for parameter in trained]
        if gradients and gradients[0].is_cuda:
            self._clip_together(trained, group["max_norm"])
        elif gradients:
            norms = torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients])
            scales = (group["max_norm"] / (norms + 1e-6)).clamp(max=1)
            for gradient, scale in zip(gradients, scales, strict=True):
                gradient.mul_(scale)

    def _clip_together(self, trained: list[Tensor], max_norm: float) -> None:
        """The same in six kernels for all tensors: a launch for each would take longer than the update itself.

        The gradients are gathered in one buffer, in pieces of `PIECE` numbers; those of a tensor add up to its norm.
        """
        key = tuple(map(id, trained))
        if key not in self._gathered:
            self._gathered[key] = Gathered(trained)
        gathered = self._gathered[key]
        pieces = gathered.fill().view(-1, PIECE)
        squares = torch.linalg.vector_norm(pieces, dim=1).square_()
        norms = torch.cat([squares, squares.new_zeros(1)])[gathered.pieces].sum(1).sqrt_()  # `index_add_` may wait
        pieces.mul_((max_norm / (norms + 1e-6)).clamp(max=1)[gathered.owner, None])
        for parameter, view in zip(trained, gathered.views, strict=True):
            parameter.grad = view


class Gathered:
    """The gradients of several tensors one after the other in a buffer, each from a multiple of `PIECE` on.

    Args:
        parameters: the tensors.
    """

    def __init__(self, parameters: list[Tensor]) -> None:
        self.parameters = parameters
        room = [-(-parameter.numel() // PIECE) for parameter in parameters]
        device, dtype = parameters[0].device, parameters[0].dtype
        self.owner = torch.repeat_interleave(torch.arange(len(room)), torch.tensor(room)).to(device)
        self.buffer = torch.zeros(sum(room) * PIECE, dtype=dtype, device=device)
        pieces = torch.full((len(room), max(room)), sum(room))  # of each tensor; the last is nobody's
        for row, (first, count) in enumerate(zip(np.cumsum([0, *room[:-1]]).tolist(), room, strict=True)):
            pieces[row, :count] = torch.arange(first, first + count)
        self.pieces = pieces.to(device)
        starts = [PIECE * sum(room[:k]) for k in range(len(room))]
        self.views = [
            self.buffer.as_strided(parameter.shape, parameter.stride(), start)
            for parameter, start in zip(parameters, starts, strict=True)
        ]
        pads = [PIECE * pieces - parameter.numel() for parameter, pieces in zip(parameters, room, strict=True)]
        self.pads = [self.buffer.new_zeros(pad) for pad in pads]

    def fill(self) -> Tensor:
        """The buffer with the gradients that the parameters have now."""
        pieces = []
        for parameter, pad in zip(self.parameters, self.pads, strict=True):
            gradient = cast("Tensor", parameter.grad)
            if gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter).copy_(gradient)
            pieces += [gradient.as_strided((gradient.numel(),), (1,)), pad]  # as it lies in memory
        return torch.cat(pieces, out=self.buffer)
