"""`xmodal train`, `fit` and `test`: one run from an experiment file, and the record that it leaves."""

import argparse
import hashlib
import inspect
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal import paths
from xmodal.checks import MAX_SEED
from xmodal.errors import UserError
from xmodal.files import write_atomically

if TYPE_CHECKING:  # importing these takes seconds; the arguments are checked before
    from lightning import Callback

    from xmodal.cli import XmodalCLI

MAX_SIZE = 4096  # bits or dimensions; more than any published method uses


def main(command: str, argv: Sequence[str]) -> int:
    """`xmodal train|fit METHOD DATA [options] [any key of the configuration]`, or with `--config FILE` alone.

    `train` fits and then evaluates once on the query set; `fit` leaves it closed; `test` evaluates a checkpoint.
    The last line on stdout is the path of the run's `result.json`.
    """
    parser = argparse.ArgumentParser(prog=f"xmodal {command}", description=main.__doc__, allow_abbrev=False)
    parser.add_argument("method", nargs="?", help="a folder of experiments/, such as dmsf")
    parser.add_argument("data", nargs="?", help="a file of that folder, such as emoji")
    parser.add_argument("--config", "-c", action="append", default=[], help="further files of the configuration")
    add_run_options(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace a run of another configuration in its folder")
    if command == "test":
        parser.add_argument(
            "--ckpt_path", type=Path, required=True, help="checkpoint of an earlier run, under its checkpoints/"
        )
    options, rest = parser.parse_known_args(list(argv))
    files, checkpoint = options.config, getattr(options, "ckpt_path", None)
    if checkpoint and not options.method:
        files = [str(checkpoint.parent.parent / "config.yaml"), *files]
    arguments = [*configuration(options.method, options.data, files), *overrides(options), *rest]
    arguments += ["--overwrite"] if options.overwrite else []
    path = evaluate(arguments, checkpoint) if checkpoint else train(arguments, test=command == "train")
    sys.stdout.write(f"{path}\n")
    return 0


def add_run_options(parser: argparse.ArgumentParser, *, seed: bool = True) -> None:
    """The short options that `train`, `sweep`, `ablate` and `bits` share; those of several seeds leave `seed` out."""
    parser.add_argument("--bits", help="code length of a binary method")
    parser.add_argument("--dim", help="embedding size of a real-valued method")
    if seed:
        parser.add_argument("--seed", help="seed of the run")
    else:
        parser.set_defaults(seed=None)
    parser.add_argument("--epochs", help="number of epochs")
    parser.add_argument("--devices", help="number of devices")


def configuration(method: str | None, dataset: str | None, files: Sequence[str | Path] = ()) -> list[str]:
    """The configuration files of a run, in order, as `--config` arguments; a tuned file's run is marked as one.

    Raises:
        UserError: neither a method with a dataset nor a configuration file was named, or a file is missing.
    """
    if method and dataset:
        files = [experiment_file(method, dataset), *files]
    elif method or not files:
        raise UserError("name a method and a dataset, such as `xmodal train dmsf emoji`, or a file with --config.")
    if missing := [str(file) for file in files if not Path(file).is_file()]:
        raise UserError(f"no configuration file {', '.join(missing)}.")
    marks = ["--variant=tuned"] if any(Path(file).parent.name == "tuned" for file in files) else []
    return [*(f"--config={file}" for file in (paths.experiments() / "default.yaml", *files)), *marks]


def experiment_file(method: str, dataset: str) -> Path:
    """The file of a pair.

    Raises:
        UserError: no such method, or no such dataset for it; the message lists those there are.
    """
    folders = sorted(path.name for path in paths.experiments().glob("*/"))
    if method not in folders:
        raise UserError(
            f"METHOD is {method!r}; the methods are: {', '.join(folders) or f'none, {paths.experiments()} is empty'}."
        )
    path = paths.experiments() / method / f"{dataset}.yaml"
    if not path.is_file():
        there = sorted(found.stem for found in path.parent.glob("*.yaml"))
        raise UserError(
            f"DATA is {dataset!r}; {method} has experiment files for: {', '.join(there)}. Write {path} for another."
        )
    return path


def overrides(options: argparse.Namespace) -> list[str]:
    """The short options as keys of the configuration.

    Raises:
        UserError: a value out of range, or the wrong one of bits and dim for the method.
    """
    given = size_argument(options.method, options.bits, options.dim)
    if options.seed is not None:
        given.append(f"--seed_everything={whole('SEED', options.seed, 0, MAX_SEED)}")
    if options.epochs is not None:
        given.append(f"--trainer.max_epochs={whole('EPOCHS', options.epochs, 1, 100_000)}")
    if options.devices is not None:
        given.append(f"--trainer.devices={whole('DEVICES', options.devices, 1, 1024)}")
    return given


def whole(name: str, text: str, low: int, high: int) -> int:
    """A whole number in a range.

    Raises:
        UserError: anything else.
    """
    if not text.isascii() or not text.isdigit() or not low <= int(text) <= high:
        raise UserError(f"{name} is {text!r}: give a whole number from {low} to {high}.")
    return int(text)


def whole_list(name: str, text: str, low: int, high: int) -> list[int]:
    """Different whole numbers in a range, such as `16,32`.

    Raises:
        UserError: anything else.
    """
    numbers = [whole(name, each, low, high) for each in text.split(",")]
    if len(set(numbers)) < len(numbers):
        raise UserError(f"{name} is {text!r}: name every number once.")
    return numbers


def size_argument(method: str | None, bits: str | None, dim: str | None) -> list[str]:
    """`--model.bits=N` or `--model.dim=N`, whichever the method takes.

    Raises:
        UserError: both, the wrong one of the two, or no whole number.
    """
    if bits is not None and dim is not None:
        raise UserError("give BITS (binary codes) or DIM (real-valued embeddings), not both.")
    name, text = ("bits", bits) if bits is not None else ("dim", dim)
    if text is None:
        return []
    size = whole(name.upper(), text, 1, MAX_SIZE)
    if method and name not in size_names(method):
        right = "DIM: its embeddings are real-valued" if name == "bits" else "BITS: its codes are binary"
        raise UserError(f"{method} takes {right}.")
    return [f"--model.{name}={size}"]


def size_names(method: str) -> tuple[str, ...]:
    """Which of `bits` and `dim` the constructor of a registered method has; both where it is not registered."""
    from xmodal import methods

    found = methods.registry().get(method)
    return tuple(name for name in ("bits", "dim") if not found or name in inspect.signature(found).parameters)


def train(arguments: Sequence[str], *, test: bool = True, callbacks: Sequence["Callback"] = ()) -> Path:
    """Fit, evaluate the best epoch once on the query set, leave the record (its path comes back); or go on with it.

    Args:
        arguments: as for `XmodalCLI`.
        test: whether to open the query set.
        callbacks: as for `XmodalCLI`.

    Raises:
        UserError: the configuration or the data are not usable.
    """
    from xmodal.checkpoint import resumable
    from xmodal.cli import XmodalCLI
    from xmodal.lengths import shared_training

    started = time.perf_counter()
    with XmodalCLI(arguments, callbacks=callbacks) as cli, shared_training(cli) as shared:
        folder = cli.folder / "checkpoints"  # what another run left was cleared away
        best = shared or folder / "best.ckpt"
        if not shared:
            if resume := resumable(folder):
                sys.stderr.write(f"going on from {resume}\n")
            cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=resume, weights_only=True)
        score = None if cli.model.one_training else cli.best.best_model_score
        if score is None:  # of another length; or a closed form, which takes no step: Lightning keeps nothing of it
            if not best.is_file():
                cli.trainer.save_checkpoint(best)
                cli.trainer.save_checkpoint(folder / "last.ckpt")
            cli.trainer.validate(cli.model, datamodule=cli.datamodule, ckpt_path=best, weights_only=True, verbose=False)
            score = cli.trainer.callback_metrics["val/map"]
        if test:
            cli.trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=best, weights_only=True, verbose=False)
            leave_outputs(cli)
        return leave_record(cli, started, {"val/map": float(score), **cli.model.results})


def evaluate(arguments: Sequence[str], checkpoint: Path) -> Path:
    """Evaluate a checkpoint on the query set under the configuration it was trained with.

    Raises:
        UserError: there is no sound checkpoint, or it was trained with another configuration than the one asked for.
    """
    from xmodal.checkpoint import read_checkpoint
    from xmodal.cli import XmodalCLI

    started = time.perf_counter()
    trained = read_checkpoint(checkpoint)["hyper_parameters"]
    mark = hashlib.sha256(str(checkpoint.resolve()).encode()).hexdigest()[:8]  # a record for every checkpoint
    own = [f"--variant=test-{mark}", "--job_type=test", "--trainer.default_root_dir=null"]
    with XmodalCLI([*arguments, *own], checkpoints=False) as cli:
        asked = cli.model.hparams
        for key in sorted(trained):  # an argument that is newer than the checkpoint contradicts nothing in it
            if trained[key] != asked.get(key):
                raise UserError(
                    f"{key.lstrip('_')} is {trained[key]!r} in the checkpoint, {asked.get(key)!r} asked for: "
                    "give the checkpoint's own."
                )
        cli.trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=checkpoint, weights_only=True, verbose=False)
        return leave_record(cli, started, cli.model.results)


def leave_outputs(cli: "XmodalCLI") -> None:
    """Keep what a record is too small for: AP per query and curves, the gallery, and the codes on request.

    `evaluation.npz` holds `ap_i2t`, `ap_t2i` (Q,), `query_index` (Q,) and (points, 3) curves of rank or radius,
    precision and recall by name; `gallery.png` is drawn where the dataset has pictures; `codes.npz` holds what the test
    has ranked and what is relevant in it: `xmodal evaluate` makes the record's numbers of it.
    """
    import numpy as np

    from xmodal.records.gallery import draw_gallery, first_hits
    from xmodal.records.loggers import log_file, log_outputs

    if not cli.trainer.is_global_zero:
        return
    model, metric = cli.model, cli.model.test_metrics["retrieval"]
    outputs: dict[str, Any] = {}
    curves: dict[str, Any] = {
        name: np.stack([curve.at, curve.precision, curve.recall], 1) for name, curve in metric.curves.items()
    }
    precisions: dict[str, Any] = {
        f"ap_{direction}": values.numpy() for direction, values in metric.average_precisions.items()
    }
    precisions["query_index"] = metric.queries.numpy()
    write_atomically(cli.folder / "evaluation.npz", lambda file: np.savez_compressed(file, **precisions, **curves))
    gallery = cli.folder / "gallery.png" if cli.config.gallery and cli.datamodule.picture(0) is not None else None
    if gallery or cli.config.save_codes:
        outputs = {name: column.cpu().numpy() for name, column in metric.outputs.items()}
    hits = first_hits(outputs) if gallery else []
    if gallery:
        unit = "bits" if model.kind == "binary" else "dimensions"
        title = f"{cli.method} on {cli.dataset}, {cli.size} {unit}: query, then the first hits"
        draw_gallery(gallery, hits, cli.datamodule.picture, cli.datamodule.caption, title)
    loggers, name = cli.trainer.loggers, f"{cli.method}-{cli.dataset}-{cli.size}"
    log_outputs(loggers, curves, gallery, hits, cli.datamodule.picture, cli.datamodule.caption)
    origin = {"study": cli.group, "variant": cli.variant, "config_hash": cli.hash, "setup_hash": cli.setup_hash}
    for file in (Path(str(each)) for each in cli.config.config or ()):
        if file.parent.name == "tuned":  # written by a sweep
            log_file(loggers, file, f"{name}-tuned", "configuration", origin)
    if cli.config.save_codes:
        write_atomically(cli.folder / "codes.npz", lambda file: np.savez_compressed(file, **outputs))
        origin["split_hash"] = cli.datamodule.describe()["split_hash"]
        log_file(loggers, cli.folder / "codes.npz", f"{name}-{cli.folder.name}-codes", "codes", origin)


def leave_record(cli: "XmodalCLI", started: float, metrics: dict[str, float], epochs: int | None = None) -> Path:
    """Write `result.json` (see DESIGN: what a run leaves), with `epochs` if the last was cut short; say its path."""
    from xmodal.records import machine, provenance, write_result
    from xmodal.records.loggers import run_id

    result: dict[str, Any] = {
        "method": cli.method,
        "kind": cli.model.kind,
        "size": cli.size,
        "output_size": cli.model.output_size,
        "seed": cli.config.seed_everything,
        "variant": cli.variant,
        "group": cli.group,
        "job_type": cli.config.job_type,
        **cli.datamodule.describe(),
        "metrics": metrics,
        "conventions": cli.model.conventions(),
        "epochs": cli.trainer.current_epoch if epochs is None else epochs,
        "parameters": sum(parameter.numel() for parameter in cli.model.parameters()),
        "config_hash": cli.hash,
        "setup_hash": cli.setup_hash,
        **provenance(),
        **machine(cli.trainer.strategy.root_device),
        "devices": cli.trainer.world_size,
        "precision": cli.trainer.precision,
        "seconds": round(time.perf_counter() - started, 3),
        "wandb_id": run_id(cli.trainer.loggers),
    }
    path = cli.folder / "result.json"
    if cli.trainer.is_global_zero:
        write_result(cli.folder, result)
    return path
