"""What every method shares in training: the form of a loss, trunks, batches over processes; nothing of any paper."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from inspect import currentframe
from types import FrameType
from typing import Any, Literal, cast, get_type_hints

import torch
from torch import Tensor
from torch.compiler import set_stance
from torch.nn import Module, ModuleDict
from torch.optim import Optimizer

from xmodal.batch import SIDES, Batch, Features, Raw, Side
from xmodal.checks import as_numbers, check_kinds, check_numbers, complete
from xmodal.encoders import SharedBatchNorm, Trunk
from xmodal.errors import UserError
from xmodal.layers import Dropout, Shard, Standardisation, gather_with_gradient, one_row_each, tell_of_own_rows
from xmodal.layers.standardisation import tell_of_scaling
from xmodal.methods.evaluation import Evaluated, HasRoles
from xmodal.methods.hooks import keep_hooks


class RetrievalMethod(Evaluated):
    """A method encodes each side by itself; codes and embeddings of one side never see the other at test time.

    A subclass implements `encode`, `training_step` and `configure_optimizers`, and sets `weights`,
    a frozen dataclass: a field is a term's name, its log key and its sweep key. Its constructor is its configuration.
    One that optimises by hand steps its schedules itself, as Lightning has it. The hooks here need no `super()`.
    One with an argument `trunk_lr` can train its trunks: it then optimises `parameter_groups()`. The trunks come from
    the data module, and what they read has become features before any step sees it.

    Args:
        kind: `binary`: outputs are relaxed codes in (-1, 1), ranked by the Hamming distance of their signs; `real`:
            outputs are embeddings, ranked by cosine.
    """

    weights: Any
    supervised = True  # whether training reads labels
    steady = False  # whether a training step computes the same in every epoch
    reranks = 0  # first hits of a search that `pair_scores` re-orders
    one_training = False  # whether codes of every length come out of one training: see `xmodal.lengths`

    def __init_subclass__(cls, **kwargs: Any) -> None:  # noqa: ANN401 - Python's own
        super().__init_subclass__(**kwargs)
        keep_hooks(RetrievalMethod, cls)

    def __init__(self, kind: Literal["binary", "real"]) -> None:
        super().__init__(kind)
        self.trunks = ModuleDict()  # those that are trained, by side
        self.standardisation = ModuleDict()  # of frozen features, by side
        self.shard = Shard()  # what this process holds of the training batch
        self._full = 0  # pairs of the largest training batch
        self._noted: dict[tuple[str, ...], Tensor] = {}  # of this epoch: sums of what `note` was given, and how often

    def save_hyperparameters(self, *args: Any, frame: FrameType | None = None, **options: Any) -> None:  # noqa: ANN401
        """Keep the constructor's arguments, and refuse what they do not take (see `xmodal.checks`).

        Raises:
            UserError: a value is of another type than its argument, or a number outside what it takes.
        """
        frame = frame or cast("FrameType", cast("FrameType", currentframe()).f_back)
        super().save_hyperparameters(*args, frame=frame, **options)
        if not args and not options:
            complete(self.hparams, frame, type(self).__name__)
        kinds = get_type_hints(type(self).__init__)
        check_kinds("model", self.hparams_initial, kinds)
        check_numbers("model", as_numbers(self.hparams_initial, kinds))

    def setup(self, stage: str) -> None:
        """Take the trunks that are to be trained from the data module, and this process's place among all.

        Raises:
            UserError: this method does not train trunks.
        """
        tells = stage == "fit" and self.trainer.global_rank == 0 and self.trainer.world_size > self.shard.world  # once
        self.shard.rank, self.shard.world = self.trainer.global_rank, self.trainer.world_size
        for module in self.modules():
            if isinstance(module, Dropout):
                module.shard = self.shard
        if tells:
            tell_of_own_rows(self, f"{type(self).__name__} has torch's")
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            return
        if stage == "fit" and self.shard.rank == 0 and not self.standardisation:
            tell_of_scaling(self.hparams, datamodule.standardised)
        for side, moments in datamodule.moments.items():
            self.standardisation[side] = Standardisation(*moments).to(self.device)
        if self.trunks:
            return
        self.trunks.update(datamodule.trunks())
        if self.shard.world > 1:
            SharedBatchNorm.replace_in(self.trunks, one_row_each(self.shard))
        if tells:
            tell_of_own_rows(self.trunks, "a trained trunk has")
        if self.trunks and "trunk_lr" not in self.hparams:
            raise UserError(
                f"{self.name} reads frozen features only: set data.trunk.sides=none, or choose a method with trunk_lr."
            )

    def standardise(self, side: Side, features: Features) -> Features:
        """What a frozen encoder gave for new pictures or texts, as `encode` wants it.

        The moments of the training features are part of the checkpoint. The data module has standardised its batches
        already; features of a trained trunk stay as they are.

        Raises:
            UserError: the moments are unknown: the checkpoint is older than they are.
        """
        if side in self.trunks:
            return features
        if side not in self.standardisation:
            raise UserError(
                f"this checkpoint of {self.name} does not say how {side} features were standardised, because an older "
                "version wrote it: train again, or load it with its data module (`xmodal test` does)."
            )
        return cast("Features", {**features, "pooled": self.standardisation[side](features["pooled"])})

    def with_features(self, batch: Batch) -> Batch:
        """The batch with features where it held what a trained trunk reads; called for every batch."""
        self._full = max(self._full, len(batch["index"])) if self.training else self._full
        whole = self.training and len(batch["index"]) == self._full  # compilation is for one size
        trunks = cast("dict[Side, Trunk]", dict(self.trunks))
        with self.trainer.precision_plugin.forward_context(), set_stance("default" if whole else "force_eager"):
            made = {side: trunk.features(cast("Raw", batch[side])) for side, trunk in trunks.items()}
        return cast("Batch", {**batch, **made})

    def parameter_groups(self, part: Module | None = None) -> list[dict[str, Any]]:
        """The method's own parameters, and those of trained trunks at the rate `trunk_lr`.

        Args:
            part: of the method, where another optimizer has the rest; none: all but the trunks.
        """
        trunk = set(self.trunks.parameters())
        own = (self if part is None else part).parameters()
        groups: list[dict[str, Any]] = [{"params": [each for each in own if each not in trunk]}]
        if trunk:
            trained = [each for each in self.trunks.parameters() if each.requires_grad]
            groups.append({"params": trained, "lr": self.hparams["trunk_lr"]})
        return groups

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what the trunks are made by, so that a checkpoint is whole without the data."""
        checkpoint["trunks"] = {side: trunk.encoder for side, trunk in self.trunks.items()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Build trunks and moments of features; the data module's stay where a checkpoint is older than they are."""
        state = checkpoint["state_dict"]
        for side in SIDES:
            keys = [f"standardisation.{side}.{name}" for name in ("mean", "deviation")]
            if all(key in state for key in keys):
                self.standardisation[side] = Standardisation(*(state[key] for key in keys)).to(self.device)
            elif side in self.standardisation:
                state.update(zip(keys, self.standardisation[side].buffers(), strict=True))
        for side, encoder in checkpoint.get("trunks", {}).items():
            if side not in self.trunks:
                self.trunks[side] = encoder.trunk(weights=False)

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - torch's own
        """See `torch.nn.Module`; weights of another model are a `UserError`."""
        try:
            return super().load_state_dict(*args, **kwargs)
        except RuntimeError as error:
            why = " ".join(str(error).split())[:200]
            raise UserError(f"the checkpoint is of another model than {self.name} ({why}).") from error

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Learn the size of the global batch."""
        self.shard.count(len(batch["label"]))

    def pair_scores(self, image: Features, text: Features) -> Tensor:
        """(P,) the higher, the nearer, of P image-text pairs: the second stage of methods whose `reranks` is not 0."""
        raise NotImplementedError

    def weigh(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Sum the terms under the weights of the same names, and log each.

        Raises:
            UserError: there is no term, or none that reaches a parameter.
            KeyError: a term has no weight of its name.
        """
        weights: dict[str, float] = asdict(self.weights)
        if unknown := terms.keys() - weights.keys():
            raise KeyError(
                f"{type(self).__name__} has no weight for the terms {sorted(unknown)}; it has {sorted(weights)}"
            )
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum() if terms else torch.zeros(())
        if torch.is_grad_enabled() and not loss.requires_grad:
            raise UserError(f"model.weights leave nothing to train by: give another of {', '.join(weights)} above 0.")
        self.note({**terms, "loss": loss})
        return loss

    def note(self, values: Mapping[str, Tensor]) -> None:
        """Log, at the end of the epoch, the means of some scalars over its steps, as `train/<name>`.

        The sums stay on the device; `self.log` would take as long as a small training step.
        """
        found = torch.stack([*values.values(), torch.ones_like(next(iter(values.values())))]).detach().double()
        names = tuple(values)
        if names not in self._noted:
            self._noted[names] = torch.zeros_like(found)
        self._noted[names] += found

    def on_train_epoch_end(self) -> None:
        """Log what was noted; a term of some steps only is their mean."""
        totals: dict[str, Tensor] = {}
        for names, noted in self._noted.items():
            *sums, count = noted.clone()
            totals |= {n: torch.stack([total, count]) + totals.get(n, 0) for n, total in zip(names, sums, strict=True)}
            noted.zero_()  # not a new one: a recorded step goes on adding to it
        self.log_dict({f"train/{name}": total / n for name, (total, n) in totals.items() if n}, sync_dist=True)

    def optimizer_list(self) -> list[Optimizer]:
        """The optimizers in the order of `configure_optimizers`, also where there is only one."""
        found = cast("list[Optimizer] | Optimizer", self.optimizers())
        return found if isinstance(found, list) else [found]

    def take_step(self, *optimizers: Optimizer, loss: Tensor, max_norm: float | None = None) -> None:
        """One backward pass and a step of some optimizers, for methods that optimise by hand.

        Args:
            optimizers: whose parameters are updated; of one alone, call it inside `toggled_optimizer`.
            loss: what is minimised.
            max_norm: clip the norm of all gradients of the first optimizer together to this.
        """
        self.make_gradients(optimizers, loss, max_norm)
        for optimizer in optimizers:
            optimizer.step()

    def make_gradients(self, optimizers: Sequence[Optimizer], loss: Tensor, max_norm: float | None = None) -> None:
        """The part of `take_step` before the optimizers step, with the same arguments."""
        for optimizer in optimizers:
            optimizer.zero_grad()
        self.manual_backward(loss)
        if max_norm is not None:
            self.clip_gradients(optimizers[0], max_norm, "norm")

    def train_set(self) -> Batch:
        """The whole training set as one batch, for closed forms and for tables over the training pairs.

        Raises:
            UserError: the module was trained without a data module.
        """
        return self.data().role("train")

    def data(self) -> HasRoles:
        """The data module of the run.

        Raises:
            UserError: there is none.
        """
        datamodule = getattr(self.trainer, "datamodule", None)
        if datamodule is None:
            raise UserError(f"{type(self).__name__} needs a data module: call trainer.fit(model, datamodule=...).")
        return cast("HasRoles", datamodule)

    def label_embeddings(self) -> Tensor:
        """(C, D) embeddings of the label names, on this module's device.

        Raises:
            UserError: the module was trained without a data module, or with another `label_dim`.
        """
        embedded = self.data().label_embeddings().to(self.device)
        if embedded.shape[1] != self.hparams.get("label_dim", embedded.shape[1]):
            raise UserError(f"model.label_dim is {self.hparams['label_dim']}: label names have {embedded.shape[1]}.")
        return embedded

    def total_steps(self) -> int:
        """Training batches of the whole run, for schedules.

        Raises:
            UserError: the trainer has no last epoch.
        """
        steps = self.trainer.estimated_stepping_batches
        if not 0 < steps < float("inf"):
            raise UserError(f"{type(self).__name__} schedules its rates over the run: give trainer.max_epochs >= 1.")
        return int(steps)

    def gather_rows(self, rows: Tensor, *, gradient: bool = False) -> Tensor:
        """The rows of all processes in a training step, in the order of the global batch.

        Args:
            rows: (B, ...) of this process, which may hold none.
            gradient: keep it: a loss that every process computes alike then has the gradient of one process.
        """
        rows = rows if gradient else rows.detach()
        return rows if self.shard.world == 1 else gather_with_gradient(rows, self.shard)

    def gather_batch(self, *rows: Tensor) -> tuple[Tensor, ...]:
        """Several parts of a batch gathered with gradient."""
        return tuple(self.gather_rows(each, gradient=True) for each in rows)

    def progress(self) -> float:
        """Share of the training's epochs that are over, for schedules."""
        return self.current_epoch / max(self.trainer.max_epochs or 1, 1)
