"""One run from a configuration: the LightningCLI subclass with the suite's links, folders, loggers and strategy.

The constructors of the method and of the data module are the only schema. The order of files is
`experiments/default.yaml`, the experiment file, then the command line.
"""

import argparse
import json
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_only
from torch.linalg import LinAlgError  # type: ignore[attr-defined]

from xmodal import data, fast, methods, paths
from xmodal.callbacks import EndAtOnce, Finite, Origin, SameData, SeedEpoch, StaysStopped
from xmodal.checkpoint import Best, WholeCheckpoints, keepers
from xmodal.checks import MAX_SEED, check_name, check_numbers, check_trunk_lr, fits, words_of
from xmodal.code import provenance
from xmodal.data.readers.checksums import table_hash
from xmodal.errors import DivergedError, UserError
from xmodal.files import remove_leftovers, text_hash, write_atomically
from xmodal.folder import OVERWRITE, check_left, clear, hold, release
from xmodal.keys import BASES, Given
from xmodal.own import imported, named, own_files
from xmodal.records.loggers import close, loggers
from xmodal.records.record import PER_RUN, run_name
from xmodal.safe_yaml import LOADER
from xmodal.trainer import OverDevices, Usable, check_trainer, first_decides, listed, several

LINKED = (
    "image_dim",
    "text_dim",
    "image_token_dim",
    "text_token_dim",
    "num_labels",
    "layer_sizes",
    "num_train",
    "standardised",
)  # properties of the data that a method's constructor may ask for
REFUSALS = ("Early stopping conditioned on", "The current optimizer", "loaded state dict")  # the second: it is fused
DERIVED = {"data.seed": "seed_everything"} | {f"model.{name}": f"data.{name}" for name in LINKED}


class XmodalCLI(LightningCLI):
    """Parses and builds one run; `model`, `datamodule`, `trainer`, `folder` and `yaml` are there afterwards.

    Args:
        arguments: the command line after the command, with the experiment files as `--config`.
        checkpoints: keep the best and the last state under `<folder>/checkpoints`.
        callbacks: further callbacks, such as the one that reports to a sweep.
        loggers: log to `metrics.csv` and W&B.
        by_hand: somebody gave the command for this one run, whose job type then replaces nothing.

    Raises:
        UserError: the configuration is not valid.
    """

    folder: Path
    yaml: str
    best: Best
    origin: Origin
    built: ClassVar[LightningArgumentParser | None] = None  # takes a third of a parse, and never differs

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        checkpoints: bool = True,
        callbacks: Sequence[Callback] = (),
        loggers: bool = True,
        by_hand: bool = False,
    ) -> None:
        self.checkpoints, self.callbacks, self.logs, self.by_hand = checkpoints, list(callbacks), loggers, by_hand
        self.overwrite = OVERWRITE in arguments  # says nothing of the run, so that it is no part of its configuration
        _quieten()
        try:
            super().__init__(
                methods.RetrievalMethod,
                data.CrossModalDataModule,
                subclass_mode_model=True,
                subclass_mode_data=True,
                save_config_callback=None,  # the record writes it, into the run's own folder
                auto_configure_optimizers=False,  # a method owns its optimizers
                parser_kwargs={"exit_on_error": False, "allow_abbrev": False},
                args=[each for each in arguments if each != OVERWRITE],
                run=False,
            )
        except Exception as error:
            if (cause := _user_error(error)) is not None:
                raise cause from None
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        """End the W&B run; what Lightning says of a configuration while it runs is one line as well."""
        close(self.trainer.loggers, failed=error is not None)
        release(self.folder)
        refuses = isinstance(error, RuntimeError | ValueError) and str(error).startswith(REFUSALS)
        if error is not None and (refuses or isinstance(error, MisconfigurationException)):
            raise _unusable(error) from error
        if isinstance(error, LinAlgError):
            raise DivergedError(" ".join(str(error).split())[:160]) from error

    def setup_parser(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Lightning's own
        """Build the parser once per process."""
        if XmodalCLI.built is None:
            super().setup_parser(*args, **kwargs)
            XmodalCLI.built = self.parser
        self.parser = XmodalCLI.built

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:  # noqa: ANN401 - Lightning's own
        """Whole keys only, and one line where a value is refused."""
        self.given = given = Given(parser, args, DERIVED)
        try:
            super().parse_arguments(parser, args)
        except argparse.ArgumentError as error:
            raise _user_error(error) or UserError(given.explain(error)) from error

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """The run's own arguments, and the links that keep derived values out of every file."""
        parser.add_argument(
            "--variant",
            type=str,
            default="base",
            help="what distinguishes the run from the plain experiment: tuned, trial-0007, ...",
        )
        parser.add_argument(
            "--group", type=str | None, help="W&B group, such as the study; default: <method>-<dataset>-<bits>"
        )
        parser.add_argument("--job_type", type=str, default="train", help="W&B job type")
        parser.add_argument(
            "--save_codes", type=bool, default=False, help="write codes.npz: codes or embeddings of both test roles"
        )
        parser.add_argument(
            "--gallery", type=bool, default=True, help="draw gallery.png where the dataset has pictures"
        )
        parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=_seed)
        for name in LINKED:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")

    def before_instantiate_classes(self) -> None:
        """Check the numbers, and derive the run's folder: method, dataset, bits or dim, and seed or trial."""
        provenance()  # of the code that is here now, which this process and its forks have imported
        self._check()
        model, module = (imported(self.config[key].class_path) for key in ("model", "data"))
        bits, dim = (self.config.model.init_args.get(name) for name in ("bits", "dim"))
        self.size, self.own_code = bits or dim, own_files(self.config.as_dict())
        self.method, self.dataset = str(model.name), str(self.config.data.init_args.get("name") or module.name)
        self.variant = self.config.variant = self.given.called(self.config.variant, self.size)
        given = self.config.data.init_args
        if "table_hash" in given and not given.table_hash and (table := given.get("table")):
            given.table_hash = table_hash(table)  # so that every hash and comparison knows another table
        tag = run_name(self.variant, self.config.seed_everything)
        self.group = self.config.group or f"{self.method}-{self.dataset}-{self.size}"
        self.folder = Path(
            self.config.trainer.default_root_dir
            or paths.runs() / self.method / self.dataset / (str(bits) if bits else f"dim{dim}") / tag
        )
        config = self.config.clone()
        config.pop("config", None)  # the files it came from; their content is here
        self.yaml = self.parser.dump(config, skip_unset=False, skip_validation=True)  # the parser made it
        self.config_dump = yaml.load(self.yaml, LOADER)  # which Lightning would dump again for the hyperparameters
        self.hash = text_hash(self.yaml)
        setup = {key: value for key, value in self.config_dump.items() if key not in PER_RUN}
        self.setup_hash = text_hash(json.dumps(setup, sort_keys=True, default=str))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:  # noqa: ANN401 - the trainer's own arguments
        """The trainer with the run's folder, loggers, checkpoints, and the strategy that several devices need."""
        config = self.config_init.trainer
        self.origin = Origin(self.own_code)
        own = [SameData(), StaysStopped(), Finite(), EndAtOnce(), Usable(), self.origin, *self.callbacks]
        config.callbacks = [SeedEpoch(self.config.seed_everything), *listed(config.callbacks), *own]  # draw after it
        if self.checkpoints:
            self.best, last = keepers(self.folder / "checkpoints")
            config.callbacks += [self.best, last]
        kwargs["plugins"] = [*listed(config.plugins), WholeCheckpoints()]
        kwargs |= {"default_root_dir": str(self.folder), "enable_checkpointing": self.checkpoints}
        own_loggers = config.logger is None and self.logs
        if config.logger is None:
            kwargs["logger"] = False  # until the folder is this run's
        if config.strategy in ("auto", "ddp") and several(config):  # plain DDP takes no method with two optimizers
            kwargs["strategy"] = OverDevices(self.model)
        fast.choose(config, self.model, self.datamodule.trunk, kwargs)
        trainer = super().instantiate_trainer(**kwargs)
        first_decides(trainer, rank_zero_only(self._begin))
        if own_loggers:
            tags = [self.method, self.dataset, f"size{self.size}", self.variant, f"seed{self.config.seed_everything}"]
            trainer.loggers = loggers(self.folder, paths.runs(), self.group, self.config.job_type, tags)
        return trainer

    def after_instantiate_classes(self) -> None:
        """Give the loggers the whole resolved configuration: class, seed and trainer included."""
        what = {"method": self.method, "size": self.size, "config_hash": self.hash, "setup_hash": self.setup_hash}
        config = self.config.as_dict() | what | self.datamodule.describe()
        config.pop("config", None)  # paths of this machine
        for logger in self.trainer.loggers:
            logger.log_hyperparams(config)

    def _check(self) -> None:
        """Refuse what the parser takes and no run can use."""
        for first in BASES:
            arguments = self.config[first].init_args.as_dict()
            for name, value in arguments.items():
                kind = self.given.known.get(f"{first}.{name}", Any)
                if value is None and not fits(value, kind):  # the parser takes null for every argument
                    raise UserError(f"{first}.{name} is null: give {words_of(kind)}.")
            check_numbers(first, arguments)
        model, module = (named(imported(self.config[key].class_path)) for key in ("model", "data"))
        key, given = module.labels_from, self.config.data.init_args.as_dict()
        if key in given and model.supervised and not given[key]:  # a class of one's own may have fixed it
            raise UserError(
                f"{model.name} learns from labels, and these data have none: name their column in data.{key}, or take "
                "a method that needs none, such as cca (`xmodal methods`)."
            )
        check_name("variant", self.config.variant)
        check_trainer(self.config.trainer)
        check_trunk_lr(model, self.config)

    def instantiate_classes(self) -> None:
        """Build everything; what a constructor refuses is one line."""
        try:
            super().instantiate_classes()
        except BaseException as error:
            release(self.folder)
            if (cause := _user_error(error)) is not None:
                raise cause from None
            if isinstance(error, ValueError | TypeError | RuntimeError | ImportError | MisconfigurationException):
                raise _unusable(error) from error
            raise

    def _begin(self) -> None:
        """Take the folder, tidy it and say in it which run this is; the other processes write nothing."""
        command = self.config.job_type != "train" and not self.by_hand  # commands own the folders of their variants
        if hold(self.folder, wait=command):
            check_left(self.folder, self.yaml, self.own_code)
        clear(self.folder, self.config_dump, overwrite=self.overwrite or command)
        remove_leftovers(self.folder)
        write_atomically(self.folder / "config.yaml", self.yaml)


class Parsed(XmodalCLI):
    """Parses and checks a configuration and derives the run's folder, but builds nothing."""

    def instantiate_classes(self) -> None:
        """Nothing is built."""

    def after_instantiate_classes(self) -> None:
        """Nothing was built."""


def _quieten() -> None:
    """Silence what Lightning says of every run; its errors and everything else stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for name in ("profilers.profiler", "callbacks.model_summary"):  # what they report was asked for
        logging.getLogger(f"lightning.pytorch.{name}").setLevel(logging.INFO)
    for message in (
        "LightningCLI's args parameter",  # our commands are called from Python with a list, always
        "`LightningModule.configure_optimizers` returned `None`",  # a closed form has no optimizer
        "The number of training batches",  # terms are logged as epoch means, so the interval does not matter
        "The '.*dataloader' does not have many workers",  # batches are indexed on the device
        "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # lightning 2.6 with torch 2.14, harmless
        "It is recommended to use `self.log",  # the metrics are the same on every rank already
        "Checkpoint directory .* exists and is not empty",  # a run that goes on
        "The dirpath has changed from",  # a run that uses the training of another code length
        "`broadcast_buffers` is deprecated",  # the oldest torch that we take has no other word for it
        "The AccumulateGrad node's stream does not match",  # lightning 2.6 makes DDP on another stream, harmless
        "Be aware that when using `ckpt_path`, callbacks used to create the checkpoint",  # `xmodal test` needs none
    ):
        warnings.filterwarnings("ignore", message)


def _seed(seed: object) -> int:
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed <= MAX_SEED:
        raise UserError(f"seed_everything is {seed!r}: give an int from 0 to {MAX_SEED}: the run can then be repeated.")
    return seed


def _unusable(error: BaseException) -> UserError:
    while error.__cause__ or error.__context__:  # what the parser wraps begins with the classes that it tried
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    text = " ".join(str(error).split()) or type(error).__name__
    return UserError(f"the configuration cannot be used: {text[:160]}")


def _user_error(error: BaseException | None) -> UserError | None:
    """The UserError of a constructor that the parser wrapped into exceptions of its own."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error
