"""What a training step did on the device, kept to be done again."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Optimizer

from xmodal.errors import UserError

Gradients = list[tuple[Parameter, Tensor | None]]


class Recording:
    """Forward and backward pass of a step, to be done again on the same addresses.

    Args:
        step: called once, while it is recorded.
        pool: of memory; recordings that share it and the stream reuse it.
        stream: on which the step is recorded.
    """

    def __init__(self, step: Callable[[], Tensor], pool: Any, stream: torch.cuda.Stream) -> None:  # noqa: ANN401
        self.graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        stream.wait_stream(torch.cuda.current_stream())
        # not `torch.cuda.graph`, which collects garbage: that takes longer than many an epoch of features
        with torch.cuda.stream(stream):
            self.graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                self.loss = step()
            finally:
                self.graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)

    def replay(self) -> Tensor:
        """The loss of the static batch; gradients lie where they lay."""
        self.graph.replay()
        return self.loss


@dataclass(frozen=True)
class Piece:
    """A graph that ends with the gradients of some optimizers; the last of a step has none."""

    graph: Any
    optimizers: Sequence[Optimizer]
    gradients: Gradients


class Pieces:
    """A step that optimises by hand: a graph up to every `take_step`, between which the optimizers step as always.

    Args:
        step: called once, while it is recorded, with this object's `take_step` in place of the method's; it is also
            taken, because every piece is replayed where it ends.
        module: whose `take_step` is replaced in the meantime.
        pool: of memory; recordings that share it and the stream reuse it.
        stream: on which the step is recorded.
    """

    def __init__(self, step: Callable[[], None], module: Any, pool: Any, stream: torch.cuda.Stream) -> None:  # noqa: ANN401
        self.pieces: list[Piece] = []
        self.pool, self.module, self.capturing = pool, module, False
        torch.cuda.synchronize()
        stream.wait_stream(torch.cuda.current_stream())
        module.take_step = self._take_step
        try:
            with torch.cuda.stream(stream):
                before = module.trainer.global_step
                self._begin()
                try:
                    step()
                except BaseException:
                    if self.capturing:
                        self.graph.capture_end()
                    raise
                self._end([])
            if module.trainer.global_step - before != sum(len(piece.optimizers) for piece in self.pieces):
                raise UserError(
                    f"{type(module).__name__} steps its optimizers otherwise than by take_step, which cannot be "
                    "recorded: leave CudaGraphs out."
                )
        finally:
            del module.take_step
        torch.cuda.current_stream().wait_stream(stream)

    def _begin(self) -> None:
        self.graph = torch.cuda.CUDAGraph()
        self.graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
        self.capturing = True

    def _end(self, optimizers: Sequence[Optimizer]) -> None:
        self.capturing = False
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The CUDA Graph is empty")  # where nothing follows the last optimizer
            self.graph.capture_end()
        parameters = [p for each in optimizers for group in each.param_groups for p in group["params"]]
        self.pieces.append(Piece(self.graph, optimizers, [(p, p.grad) for p in parameters]))
        self._replay(self.pieces[-1])

    def _take_step(self, *optimizers: Optimizer, loss: Tensor, max_norm: float | None = None) -> None:
        self.module.make_gradients(optimizers, loss, max_norm)
        self._end(optimizers)
        self._begin()

    def _replay(self, piece: Piece) -> None:
        for parameter, gradient in piece.gradients:
            parameter.grad = gradient
        piece.graph.replay()
        for optimizer in piece.optimizers:
            optimizer.step()

    def replay(self) -> None:
        """The step with the static batch."""
        for piece in self.pieces:
            self._replay(piece)


@dataclass(frozen=True)
class Kept:
    """A recording, the batch that it reads and the gradients that it writes."""

    recording: Recording | Pieces
    batch: list[Tensor]
    gradients: Gradients


def leaves(batch: Any) -> Iterator[Tensor]:  # noqa: ANN401 - a tree of tensors
    """The tensors of a batch, in order."""
    for value in batch.values():
        yield from leaves(value) if isinstance(value, Mapping) else (value,)


def filled(batch: Any, tensors: Iterator[Tensor]) -> Any:  # noqa: ANN401
    """A batch of the same form with other tensors."""
    return {
        key: filled(value, tensors) if isinstance(value, Mapping) else next(tensors) for key, value in batch.items()
    }
