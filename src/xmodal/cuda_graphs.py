"""CUDA graphs: forward and backward of a training step are launched at once, for methods whose launches dominate."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import Parameter

from xmodal.errors import UserError

EAGER = 3  # steps before the first capture, in which libraries and the allocator settle


class Recording:
    """What a step did on the device, to be done again on the same addresses.

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
class Kept:
    """A recording, the batch that it reads and the gradients that it writes."""

    recording: Recording
    batch: list[Tensor]
    gradients: list[tuple[Parameter, Tensor | None]]


class CudaGraphs(Callback):
    """Records a method's forward and backward pass and replays it.

    Switched on by `--trainer.callbacks+=xmodal.cuda_graphs.CudaGraphs`.

    A recording lives for an epoch, because methods renew tables, prototypes and schedules where one begins. The
    optimizer steps as always. For methods with one optimizer on one CUDA device, over features (no trained trunks).

    Raises:
        UserError: the run cannot be recorded.
    """

    device = "cuda"

    def __init__(self) -> None:
        self.recordings: dict[Any, Kept] = {}
        self.last_epoch: dict[Any, Kept] = {}  # kept until something new lies in the pool: an empty one is closed
        self.steps, self.recorded = 0, False

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take the place of the step, of the backward pass and of the zeroing of gradients."""
        for wrong, why in (
            (trainer.strategy.root_device.type != self.device, f"it runs on {trainer.strategy.root_device.type}"),
            (trainer.world_size > 1, "it runs on several devices"),
            (trainer.accumulate_grad_batches > 1, "it adds up gradients of several batches"),
            (not pl_module.automatic_optimization, f"{type(pl_module).__name__} optimises by hand"),
            (bool(getattr(pl_module, "trunks", None)), "it trains trunks"),
            (trainer.precision == "16-mixed", "16-mixed scales the loss anew in each step (bf16-mixed does not)"),
        ):
            if wrong:
                raise UserError(f"CudaGraphs records steps of one optimizer over features on one GPU, but {why}.")
        self.module, self.step = pl_module, cast("Callable[[Any, int], Tensor]", pl_module.training_step)
        self.place = self._place()
        own: Any = {"training_step": self._step, "backward": self._backward, "optimizer_zero_grad": self._zero_grad}
        for name, function in own.items():
            setattr(pl_module, name, function)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record anew."""
        if self.recordings:
            self.last_epoch, self.recordings = self.recordings, {}

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the module its own functions back."""
        self.recordings, self.last_epoch = {}, {}
        for name in ("training_step", "backward", "optimizer_zero_grad"):
            delattr(pl_module, name)

    def _place(self) -> Any:  # noqa: ANN401
        return torch.cuda.graph_pool_handle(), torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def _step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ANN401 - a batch
        self.steps += 1
        self.recorded = self.steps > EAGER
        if not self.recorded:
            return self.step(batch, batch_idx)
        tensors = list(leaves(batch))
        key = tuple(tensor.shape for tensor in tensors)
        if key not in self.recordings:
            self.recordings[key] = self._record(batch, batch_idx)
            self.last_epoch = {}
        kept = self.recordings[key]
        for parameter, gradient in kept.gradients:
            parameter.grad = gradient
        for held, tensor in zip(kept.batch, tensors, strict=True):
            held.copy_(tensor)
        return kept.recording.replay()

    def _record(self, batch: Any, batch_idx: int) -> "Kept":  # noqa: ANN401
        static = [tensor.clone() for tensor in leaves(batch)]
        held = filled(batch, iter(static))
        self.module.zero_grad()  # the recorded pass then makes the gradients anew instead of adding to them
        try:
            recording = Recording(lambda: self._pass(held, batch_idx), *self.place)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            raise UserError(
                f"{type(self.module).__name__} waits for the device within a step, which cannot be recorded: leave "
                f"CudaGraphs out ({str(error.__context__ or error).splitlines()[0]})."
            ) from error
        return Kept(recording, static, [(each, each.grad) for each in self.module.parameters()])

    def _pass(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ANN401
        loss = self.step(batch, batch_idx)
        with torch.autocast(self.module.device.type, enabled=False):
            torch.autograd.backward(loss)
        return loss.detach()

    def _backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        if not self.recorded:
            torch.autograd.backward(loss, *arguments, **options)

    def _zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:  # noqa: ANN401
        if not self.recorded:
            optimizer.zero_grad()


def leaves(batch: Any) -> Iterator[Tensor]:  # noqa: ANN401 - a tree of tensors
    """The tensors of a batch, in order."""
    for value in batch.values():
        yield from leaves(value) if isinstance(value, Mapping) else (value,)


def filled(batch: Any, tensors: Iterator[Tensor]) -> Any:  # noqa: ANN401
    """A batch of the same form with other tensors."""
    return {
        key: filled(value, tensors) if isinstance(value, Mapping) else next(tensors) for key, value in batch.items()
    }
