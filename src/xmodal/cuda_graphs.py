"""CUDA graphs: forward and backward of a training step are launched at once, for methods whose launches dominate."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.nn import Parameter

from xmodal.errors import UserError

BUCKET = 2**24  # gradients that are averaged in one operation, at least
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
        self.buffer = torch.zeros(sum(map(Tensor.numel, parameters)), device=parameters[0].device)
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


class CudaGraphs(Callback):
    """Records a method's forward and backward pass and replays it.

    Switched on by `--trainer.callbacks+=xmodal.cuda_graphs.CudaGraphs`.

    A recording lives for an epoch, because methods renew tables, prototypes and schedules where one begins; that of a
    method whose step is the same in every epoch (`steady`) lives as long as the run. The optimizer steps as always.
    Trunks that are trained belong to the recording. On several devices the mean of the gradients over the processes
    belongs to it as well, and DDP takes none; steps then run on a stream of their own, because Lightning asks in every
    step for a SIGTERM and reads the answer from the stream that is current. For methods with one optimizer.

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
                trainer.world_size > 1 and _uneven(trainer),
                "the batches of several devices differ in size with per_label",
            ),
            (trainer.accumulate_grad_batches > 1, "it adds up gradients of several batches"),
            (not pl_module.automatic_optimization, f"{type(pl_module).__name__} optimises by hand"),
            (trainer.precision == "16-mixed", "16-mixed scales the loss anew in each step (bf16-mixed does not)"),
        ):
            if wrong:
                raise UserError(f"CudaGraphs records steps of one optimizer on GPUs, but {why}.")
        self.trainer, self.averaged, self.stack = trainer, None, ExitStack()
        self.apart, self.uneven = None, False
        if trainer.world_size > 1:
            pairs, size = (getattr(trainer.datamodule, name, 1) for name in ("num_train", "batch_size"))  # type: ignore[attr-defined]
            self.uneven = bool(pairs % size % trainer.world_size)  # the last batch: ranks must replay the same
            self.apart = torch.cuda.Stream() if self.device == "cuda" else None  # type: ignore[no-untyped-call]
            self.stack.enter_context(trainer.strategy.model.no_sync())  # type: ignore[union-attr,operator] # DDP's model
            self.averaged = Averaged(pl_module)
        self.module, self.step = pl_module, cast("Callable[[Any, int], Tensor]", pl_module.training_step)
        self.features = cast("Callable[[Any], Any]", pl_module.with_features)
        self.place = self._place()
        own: Any = {"training_step": self._step, "backward": self._backward, "optimizer_zero_grad": self._zero_grad}
        for name, function in (own | {"with_features": self._with_features}).items():
            setattr(pl_module, name, function)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Record anew."""
        if self.recordings and not getattr(pl_module, "steady", False):
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
        for name in ("training_step", "backward", "optimizer_zero_grad", "with_features"):
            delattr(pl_module, name)

    def _place(self) -> Any:  # noqa: ANN401
        return torch.cuda.graph_pool_handle(), torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def _step(self, batch: Any, batch_idx: int) -> Tensor:  # noqa: ANN401 - a batch
        self.steps += 1
        self.recorded = self.steps > EAGER and not (self.uneven and batch_idx + 1 >= self.trainer.num_training_batches)
        if not self.recorded:
            return self.step(self.features(batch), batch_idx)
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
        loss = self.step(self.features(batch), batch_idx)
        with torch.autocast(self.module.device.type, enabled=False):
            torch.autograd.backward(loss)
            if self.averaged is not None:
                self.averaged.finish()
        return loss.detach()

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


def _uneven(trainer: Trainer) -> bool:
    return bool(getattr(getattr(trainer, "datamodule", None), "per_label", 0))


def leaves(batch: Any) -> Iterator[Tensor]:  # noqa: ANN401 - a tree of tensors
    """The tensors of a batch, in order."""
    for value in batch.values():
        yield from leaves(value) if isinstance(value, Mapping) else (value,)


def filled(batch: Any, tensors: Iterator[Tensor]) -> Any:  # noqa: ANN401
    """A batch of the same form with other tensors."""
    return {
        key: filled(value, tensors) if isinstance(value, Mapping) else next(tensors) for key, value in batch.items()
    }
