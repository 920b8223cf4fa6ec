"""CUDA graphs: forward and backward of a training step are launched at once, for methods whose launches dominate."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor

from xmodal.cuda_graphs.averaged import Averaged
from xmodal.cuda_graphs.recording import Kept, Pieces, Recording, filled, leaves
from xmodal.errors import UserError

EAGER = 3  # steps before the first capture, in which libraries and the allocator settle


class CudaGraphs(Callback):
    """Records a method's forward and backward pass and replays it.

    Switched on by `--trainer.callbacks+=xmodal.cuda_graphs.CudaGraphs`.

    A recording lives for an epoch, because methods renew tables, prototypes and schedules where one begins; that of a
    method whose class says that its step is the same in every epoch (`steady`) lives as long as the run. What a step
    reads in Python, such as the number of steps, stays as it was recorded. The optimizer steps as always.
    Trunks that are trained belong to the recording. On several devices the mean of the gradients over the processes
    belongs to it as well, and DDP takes none; steps then run on a stream of their own, because Lightning asks in every
    step for a SIGTERM and reads the answer from the stream that is current. A step that optimises by hand is recorded
    piece by piece, from one step of an optimizer to the next, on one device.

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
            (
                trainer.world_size > 1 and not isinstance(trainer.strategy, DDPStrategy),
                f"{type(trainer.strategy).__name__} shares it out over several devices",
            ),
            (
                trainer.world_size > 1 and bool(getattr(getattr(trainer, "datamodule", None), "per_label", 0)),
                "the batches of several devices differ in size with per_label",
            ),
            (bool(rest := unfit(pl_module, trainer, several=trainer.world_size > 1)), rest),
        ):
            if wrong:
                raise UserError(f"CudaGraphs records steps on GPUs, but {why}.")
        self.trainer, self.averaged, self.stack = trainer, None, ExitStack()
        self.apart, self.uneven = None, False
        if trainer.world_size > 1:
            pairs, size = (getattr(trainer.datamodule, name, 1) for name in ("num_train", "batch_size"))  # type: ignore[attr-defined]
            self.uneven = bool(pairs % size % trainer.world_size)  # the last batch: ranks must replay the same
            self.apart = torch.cuda.Stream() if self.device == "cuda" else None  # type: ignore[no-untyped-call]
            self.stack.enter_context(trainer.strategy.model.no_sync())  # type: ignore[union-attr,operator] # DDP's model
            self.averaged = Averaged(pl_module)
        self.module, self.step = pl_module, cast("Callable[[Any, int], Any]", pl_module.training_step)
        self.features = cast("Callable[[Any], Any]", pl_module.with_features)
        self.place = self._place()
        self.own: dict[str, Any] = {"training_step": self._step, "with_features": self._with_features}
        if pl_module.automatic_optimization:
            self.own |= {"backward": self._backward, "optimizer_zero_grad": self._zero_grad}
        for name, function in self.own.items():
            setattr(pl_module, name, function)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record anew."""
        if self.recordings and not vars(type(pl_module)).get("steady"):  # a class derived of it may compute otherwise
            self.last_epoch, self.recordings = self.recordings, {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        """Go on with the stream of the steps."""
        if self.apart is not None:
            self.main = torch.cuda.current_stream()
            self.apart.wait_stream(self.main)
            for tensor in leaves(batch):
                tensor.record_stream(self.apart)
            torch.cuda.set_stream(self.apart)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *rest: Any, **more: Any) -> None:  # noqa: ANN401
        """Leave it; what comes after the last step waits for it."""
        if self.apart is not None:
            torch.cuda.set_stream(self.main)
            if trainer.is_last_batch:
                self.main.wait_stream(self.apart)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Wait for the steps."""
        if self.apart is not None:
            torch.cuda.current_stream().wait_stream(self.apart)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Give the module its own functions back."""
        self.recordings, self.last_epoch = {}, {}
        self.stack.close()
        for name in self.own:
            delattr(pl_module, name)

    def _place(self) -> Any:  # noqa: ANN401
        return torch.cuda.graph_pool_handle(), torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def _step(self, batch: Any, batch_idx: int) -> Tensor | None:  # noqa: ANN401 - a batch
        self.steps += 1
        self.recorded = self.steps > EAGER and not (self.uneven and batch_idx + 1 >= self.trainer.num_training_batches)
        if not self.recorded:
            return cast("Tensor | None", self.step(self.features(batch), batch_idx))
        tensors = list(leaves(batch))
        key = tuple(tensor.shape for tensor in tensors)
        if key not in self.recordings:
            self.recordings[key] = self._record(batch, batch_idx)
            self.last_epoch = {}
            if not self.module.automatic_optimization:
                return None  # recorded in pieces, the step was taken
        kept = self.recordings[key]
        for parameter, gradient in kept.gradients:
            parameter.grad = gradient
        for held, tensor in zip(kept.batch, tensors, strict=True):
            held.copy_(tensor)
        return kept.recording.replay()

    def _record(self, batch: Any, batch_idx: int) -> Kept:  # noqa: ANN401
        static = [tensor.clone() for tensor in leaves(batch)]
        held = filled(batch, iter(static))
        self.module.zero_grad()  # the recorded pass then makes the gradients anew instead of adding to them
        try:
            if not self.module.automatic_optimization:
                pieces = Pieces(lambda: self.step(self.features(held), batch_idx), self.module, *self.place)
                return Kept(pieces, static, [])
            recording = Recording(lambda: self._pass(held, batch_idx), *self.place)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            reason = str(error.__context__ or error).splitlines()[0]
            raise UserError(
                f"{type(self.module).__name__} or its trunk waits for the device within a step, which cannot be "
                f"recorded: leave CudaGraphs out, or say --data.trunk.record=false ({reason})."
            ) from error
        return Kept(recording, static, [(each, each.grad) for each in self.module.parameters()])

    def _pass(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ANN401
        loss = self.step(self.features(batch), batch_idx)
        with torch.autocast(self.module.device.type, enabled=False):
            torch.autograd.backward(loss)
            if self.averaged is not None:
                self.averaged.finish()
        return cast("Tensor", loss.detach())

    def _with_features(self, batch: Any) -> Any:  # noqa: ANN401
        """In training the batch as it is: making features is part of the recorded step."""
        return batch if self.module.training else self.features(batch)

    def _backward(self, loss: Tensor, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        if not self.recorded:
            torch.autograd.backward(loss, *arguments, **options)
            if self.averaged is not None:
                self.averaged.finish()

    def _zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:  # noqa: ANN401
        if not self.recorded:
            optimizer.zero_grad()


def unfit(module: Any, trainer: Any, *, several: bool) -> str:  # noqa: ANN401 - a trainer, or its keys
    """Why the steps of a run cannot be recorded; empty if they can.

    Args:
        module: that is trained.
        trainer: or its keys.
        several: whether it runs on several devices.
    """
    if not module.automatic_optimization and several:
        return f"{type(module).__name__} optimises by hand, which is recorded on one device only"
    if waits := getattr(module, "waits", ""):  # for its device, within a step
        return str(waits)
    if trainer.precision == "16-mixed":
        return "16-mixed scales the loss anew in each step (bf16-mixed does not)"
    return "it adds up gradients of several batches" if trainer.accumulate_grad_batches not in (None, 1) else ""
