"""BertAdam, the optimizer of the CLIP-based hashing methods, whose schedule is part of it."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from xmodal.errors import UserError


def warmup_cosine(progress: float, warmup: float) -> float:
    """Share of the learning rate at `progress` in [0, 1]: progress / warmup, then (1 + cos(pi progress)) / 2."""
    return progress / warmup if progress < warmup else 0.5 * (1 + math.cos(math.pi * progress))


class BertAdam(Optimizer):
    """Adam without bias correction, with decoupled decay, a gradient clip per tensor, and warm-up with cosine decay.

    Written from the formulas of the releases of DCHMT, DSPH and MITH. The first step has rate 0, and the rate drops a
    little where the warm-up ends, as there.

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
        defaults = {"lr": lr, "weight_decay": weight_decay, "betas": betas, "eps": eps, "max_norm": max_norm}
        super().__init__(params, {**defaults, "total_steps": total_steps, "warmup": warmup})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step; the closure, where there is one, computes the loss again."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)
        return loss

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        state, gradient, (first, second) = self.state[parameter], parameter.grad, group["betas"]
        assert gradient is not None
        if not state:
            state.update(step=0, mean=torch.zeros_like(parameter), square=torch.zeros_like(parameter))
        norm = torch.linalg.vector_norm(gradient)
        gradient = gradient * (group["max_norm"] / (norm + 1e-6)).clamp(max=1)
        state["mean"].mul_(first).add_(gradient, alpha=1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        rate = group["lr"] * warmup_cosine(min(state["step"] / group["total_steps"], 1.0), group["warmup"])
        update = state["mean"] / (state["square"].sqrt() + group["eps"])
        parameter.sub_(rate * (update + group["weight_decay"] * parameter))
        state["step"] += 1
