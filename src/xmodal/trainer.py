"""What a run asks of Lightning's trainer: which of its values can be used, and the strategy for several devices."""

import os
import re
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pydoc import locate
from typing import Any, TypeVar, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.utilities import rank_zero_only

from xmodal.errors import UserError
from xmodal.methods import RetrievalMethod
from xmodal.methods.hooks import tell_of_replaced
from xmodal.parent import FIRST

Decided = TypeVar("Decided")
DEVICES, PROCESSES = 1024, 64  # at most in a node: GPUs, or processes of a CPU
TRAINER = {
    "max_epochs": ("a whole number from 1", 1),
    "min_epochs": ("a whole number from 0, or null", 0),
    "check_val_every_n_epoch": ("a whole number from 1", 1),
    "limit_train_batches": ("a number of batches or a share above 0", 1e-9),
    "accumulate_grad_batches": ("a whole number from 1", 1),
    "gradient_clip_val": ("a number above 0, or null", 1e-30),
    "num_nodes": ("a whole number from 1", 1),
}  # the least that a run can use
COUNTED = "a run is counted in epochs, give trainer."
ONLY: dict[str, tuple[tuple[Any, ...], str]] = {
    "max_steps": ((-1,), f"{COUNTED}max_epochs"),  # Lightning would go on with the pairs of another epoch
    "max_time": ((None,), f"{COUNTED}max_epochs"),
    "min_steps": ((None,), f"{COUNTED}min_epochs"),
    "strategy": (("auto", "ddp"), "give auto, with which every method is tested"),
    "num_sanity_val_steps": ((0,), "give 0, or a search takes the score of an untrained model for that of an epoch"),
    "enable_checkpointing": ((None, True), "but a run evaluates its best checkpoint: leave it out"),
    "limit_val_batches": ((None,), "but an evaluation is of all pairs, take data.subset"),
    "limit_test_batches": ((None,), "but an evaluation is of all pairs, take data.subset"),
    "limit_predict_batches": ((None,), "but a run predicts nothing: leave it out"),
    # a checkpoint of an epoch's end would keep the score of weights from before it
    "val_check_interval": ((None,), "but epochs are chosen by their ends, take check_val_every_n_epoch"),
    "sync_batchnorm": ((False,), "which drops activations: say false, trunks share their statistics without it"),
    "enable_autolog_hparams": ((True,), "but loggers get the whole configuration in any case: leave it out"),
    "model_registry": ((None,), "but nothing is sent there: leave it out"),
}  # values that can be used, where another one would have no effect or a wrong one
PRECISIONS = ("32", "32-true", "16", "16-mixed", "bf16", "bf16-mixed")  # features and evaluation are of 32 bits
AVERAGES = "which copies the model before the data have shaped it: average in a method of your own"
FINDS = "which trains with another value than the configuration says: give the value that it finds"
CALLBACKS = {
    "WeightAveraging": AVERAGES,
    "StochasticWeightAveraging": AVERAGES,
    "LearningRateFinder": FINDS,
    "BatchSizeFinder": FINDS,
    "Timer": "whose clock cannot be repeated: give trainer.max_epochs",
    "ModelPruning": "which prunes what was validated before: prune in a method of your own",
    "OnExceptionCheckpoint": "which a run would go on from in the midst of an epoch: leave it out",
    "BackboneFinetuning": "for a `backbone`, which no method has: see data.trunk",
    "GradientAccumulationScheduler": "of which no schedule knows: give trainer.accumulate_grad_batches",
    "SpikeDetection": "whose state is no part of a checkpoint: leave it out",
    "BasePredictionWriter": "but a run predicts nothing: leave it out",
}  # of Lightning, that no run can use


def check_trainer(trainer: Any) -> None:  # noqa: ANN401 - its arguments
    """Refuse what the parser takes and no run can use.

    Raises:
        UserError: such a value, and what can be used.
    """
    for name, (words, low) in TRAINER.items():
        if (value := trainer[name]) is not None and value < low:
            raise UserError(f"trainer.{name} is {value}: give {words}.")
    count = int(trainer.devices) if re.fullmatch(r"\d{1,9}", str(trainer.devices)) else 1
    most = DEVICES if trainer.accelerator != "cpu" and torch.cuda.is_available() else PROCESSES
    if count > most:
        raise UserError(f"trainer.devices is {count}: give a number from 1 to {most}.")
    if trainer.precision is not None and str(trainer.precision) not in PRECISIONS:
        raise UserError(f"trainer.precision is {trainer.precision}: give 32-true, 16-mixed or bf16-mixed.")
    for each in listed(trainer.callbacks):
        check_callback(locate(each.class_path), "trainer.callbacks")
    for name in ("max_epochs", "check_val_every_n_epoch"):
        if trainer[name] is None:
            raise UserError(f"trainer.{name} is null: give {TRAINER[name][0]}.")
    for name in ("min_epochs", "check_val_every_n_epoch"):
        if (value := trainer[name]) is not None and value > trainer.max_epochs:
            raise UserError(f"trainer.{name} is {value}: give at most trainer.max_epochs, {trainer.max_epochs}.")
    for name, (values, words) in ONLY.items():
        if trainer[name] not in values:
            raise UserError(f"trainer.{name} is {getattr(trainer[name], 'class_path', trainer[name])}: {words}.")
    if trainer.gradient_clip_algorithm and trainer.gradient_clip_val is None:
        raise UserError("trainer.gradient_clip_algorithm says how to clip: give trainer.gradient_clip_val as well.")
    for each in listed(trainer.plugins):
        if not issubclass(cast("type", locate(each.class_path)), ClusterEnvironment):
            raise UserError(f"trainer.plugins has {each.class_path}: give a cluster environment, or trainer.precision.")
    for name in ("fast_dev_run", "barebones", "overfit_batches"):
        if trainer[name]:
            raise UserError(f"trainer.{name} leaves out what a record needs: take `xmodal smoke` or data.subset.")
    # a 1 is parsed as 1.0 where a package has built Union[float, int] before Lightning: typing takes both for the first
    if isinstance(value := trainer.limit_train_batches, float) and value == 1:
        raise UserError("trainer.limit_train_batches is 1.0: leave it out for all batches, or give 2 of them at least.")
    if trainer.use_distributed_sampler:
        raise UserError("trainer.use_distributed_sampler is true, which pads: say false, the data module shards.")


def check_callback(kind: Any, where: str) -> None:  # noqa: ANN401 - a class, or what is given for one
    """Refuse a callback of Lightning's that no run can use, and what is derived of it.

    Raises:
        UserError: it is one.
    """
    for name in (each.__name__ for each in getattr(kind, "__mro__", ())):
        if name in CALLBACKS:
            raise UserError(f"{where} has a {name}, {CALLBACKS[name]}.")


class Usable(Callback):
    """What a method's own `configure_callbacks` brings is held to what `trainer.callbacks` may have."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """See the class."""
        for each in trainer.callbacks:  # type: ignore[attr-defined]
            check_callback(type(each), f"{type(pl_module).__name__}.configure_callbacks")
        if stage == "fit":
            tell_of_replaced(RetrievalMethod, pl_module)


def listed(given: Any) -> list[Any]:  # noqa: ANN401 - an argument of the trainer
    """What Lightning takes as a list, as one thing, or as nothing."""
    return given if isinstance(given, list) else [given] if given else []


def started_outside(trainer: Trainer) -> bool:
    """Whether torchrun or SLURM has started the processes of a run, all at once; else the first one starts the others.

    The first one says in a variable who it is: the processes that it starts end with it.
    """
    environment = getattr(trainer.strategy, "cluster_environment", None)
    if environment and not environment.creates_processes_externally:
        os.environ[FIRST] = str(os.getpid())
    return trainer.world_size > 1 and FIRST not in os.environ


def first_decides(trainer: Trainer, decide: Callable[[], Decided]) -> Decided:
    """What the first process decides, on every process; where it refuses, all do.

    Processes that it starts come here after it, and find what it has made. Others come with it: they hear of it.

    Args:
        trainer: before or after it has run.
        decide: looks at files, and may change them.

    Raises:
        UserError: of the first process.
    """
    if trainer.world_size == 1:  # a task of SLURM's that trains alone is a command of its own, whatever its number
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
    if not started_outside(trainer):
        return decide()
    trainer.strategy.setup_environment()  # so that they can talk; the trainer does it again
    decided, refused = None, ""
    if trainer.is_global_zero:
        try:
            decided = decide()
        except UserError as error:
            refused = str(error)
    decided, refused = trainer.strategy.broadcast((decided, refused))
    if refused:
        raise UserError(refused)
    return cast("Decided", decided)


class OverDevices(DDPStrategy):
    """DDP for a method: gradients lie in the buffers that are summed over the devices, and are not copied there.

    Two optimizers leave parameters without gradient in each backward pass, and so may a term that is left out (weight
    0), which plain DDP does not allow. The buffers
    of the first process (code tables, queues, prototypes, batch statistics) are not sent to the others before each
    step: every process makes the same ones out of gathered rows.

    Args:
        model: whose training is spread.
    """

    def __init__(self, model: LightningModule) -> None:
        weights: Any = getattr(model, "weights", None)
        terms = fields(weights) if is_dataclass(weights) else ()
        left_out = any(getattr(weights, each.name) == 0 != each.default for each in terms)
        super().__init__(
            find_unused_parameters=not model.automatic_optimization or left_out,
            gradient_as_bucket_view=True,
            broadcast_buffers=False,
        )

    def configure_ddp(self) -> None:
        """A closed form, which every process computes from the whole training set, has no gradients to sum."""
        if self.model is not None and any(parameter.requires_grad for parameter in self.model.parameters()):
            super().configure_ddp()


def several(trainer: Any) -> bool:  # noqa: ANN401 - its arguments
    """Whether a run asks for more than one process."""
    devices = trainer.devices
    if trainer.num_nodes > 1:
        return True
    if isinstance(devices, (list, tuple)):
        return len(devices) > 1
    text = str(devices)
    return (
        "," in text
        or (text.isdigit() and int(text) > 1)
        or (text in ("-1", "auto") and trainer.accelerator != "cpu" and torch.cuda.device_count() > 1)
    )
