"""`xmodal train`, `fit` and `test`: one run from an experiment file, and the record that it leaves."""

import argparse
import hashlib
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xmodal import arguments
from xmodal.checks import MAX_SEED, RANGES
from xmodal.errors import UserError
from xmodal.experiment import configuration, size_names
from xmodal.files import write_atomically
from xmodal.folder import OVERWRITE
from xmodal.own import tell_of_others
from xmodal.records.record import read_result

if TYPE_CHECKING:  # importing these takes seconds; the arguments are checked before
    from lightning import Callback

    from xmodal.cli import XmodalCLI

MAX_SIZE = int(RANGES["bits"].high)  # bits or dimensions; more than any published method uses


def main(command: str, argv: Sequence[str]) -> int:
    """`xmodal train|fit METHOD DATA [options] [any key of the configuration]`, or with `--config FILE` alone.

    `train` fits and then evaluates once on the query set; `fit` leaves it closed; `test` evaluates a checkpoint.
    The last two lines on stdout are the scores and the path of the run's `result.json`.
    """
    options, rest = arguments.parser(command).parse_known_args(list(argv))
    files, checkpoint = options.config, getattr(options, "ckpt_path", None)
    if checkpoint and not options.method:
        files = [str(checkpoint.parent.parent / "config.yaml"), *files]
    given = [*configuration(options.method, options.data, files), *overrides(options, rest)]
    path = evaluate(given, checkpoint) if checkpoint else train(given, test=command == "train", by_hand=True)
    if path.is_file():  # on another machine of the run there may be none
        sys.stdout.write(f"{scores(read_result(path)['metrics'])}\n")
    sys.stdout.write(f"{path}\n")
    return 0


def scores(metrics: Mapping[str, float]) -> str:
    """The mAP of a run in one line, such as `mAP@all: validation 0.64; query set i2t 0.59, t2i 0.59, mean 0.59`."""
    parts = [f"validation {metrics['val/map']:.4f}"] if "val/map" in metrics else []
    if "test/map" in metrics:
        names = {"i2t": "test/map_i2t", "t2i": "test/map_t2i", "mean": "test/map"}
        parts.append("query set " + ", ".join(f"{word} {metrics[name]:.4f}" for word, name in names.items()))
    return f"mAP@all: {'; '.join(parts)}"


def overrides(options: argparse.Namespace, rest: Sequence[str] = ()) -> list[str]:
    """The short options as keys of the configuration, and further keys.

    Raises:
        UserError: a value out of range, the wrong one of bits and dim for the method, or a key beside its short option.
    """
    given = size_argument(options.method, options.bits, options.dim)
    if options.seed is not None:
        given.append(f"--seed_everything={whole('SEED', options.seed, 0, MAX_SEED)}")
    if options.epochs is not None:
        given.append(f"--trainer.max_epochs={whole('EPOCHS', options.epochs, 1, 100_000)}")
    if options.devices is not None:
        given.append(f"--trainer.devices={whole('DEVICES', options.devices, 1, 1024)}")
    taken = {each.partition("=")[0] for each in given} | ({"--seed_everything"} if hasattr(options, "seeds") else set())
    for key in (each.partition("=")[0].replace(".init_args", "") for each in rest):
        if key in taken:
            raise UserError(f"{key} is given beside the short option for it: give one of the two.")
    return [*given, *rest, *([OVERWRITE] if getattr(options, "overwrite", False) else [])]


def whole(name: str, text: str, low: int, high: int) -> int:
    """A whole number in a range.

    Raises:
        UserError: anything else.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 19 or not low <= int(text) <= high:
        raise UserError(f"{name} is {text[:40]!r}: give a whole number from {low} to {high}.")
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
    names = size_names(method) if method else ()
    if names and name not in names:  # where there is none, the keys say so
        right = "DIM: its embeddings are real-valued" if name == "bits" else "BITS: its codes are binary"
        raise UserError(f"{method} takes {right}.")
    return [f"--model.{name}={size}"]


def train(
    arguments: Sequence[str], *, test: bool = True, callbacks: Sequence["Callback"] = (), by_hand: bool = False
) -> Path:
    """Fit, evaluate the best epoch once on the query set, leave the record (its path comes back); or go on with it.

    Args:
        arguments: as for `XmodalCLI`.
        test: whether to open the query set.
        callbacks: as for `XmodalCLI`.
        by_hand: as for `XmodalCLI`.

    Raises:
        UserError: the configuration or the data are not usable.
    """
    from xmodal.checkpoint import resumable
    from xmodal.cli import XmodalCLI
    from xmodal.lengths import shared_training
    from xmodal.trainer import first_decides

    started = time.perf_counter()
    with XmodalCLI(arguments, callbacks=callbacks, by_hand=by_hand) as cli, shared_training(cli) as shared:
        folder = cli.folder / "checkpoints"  # what another run left was cleared away
        best = shared or folder / "best.ckpt"
        if not shared:
            if resume := first_decides(cli.trainer, lambda: resumable(folder)):
                sys.stderr.write(f"going on from {resume}\n")
            cli.trainer.fit(cli.model, datamodule=cli.datamodule, ckpt_path=resume, weights_only=True)
        score = cli.best.best_model_score
        if score is None or cli.model.one_training:
            if score is None and not shared:  # a closed form, which takes no step: Lightning keeps nothing of it
                cli.trainer.save_checkpoint(best)
                cli.trainer.save_checkpoint(folder / "last.ckpt")
            cli.trainer.validate(cli.model, datamodule=cli.datamodule, ckpt_path=best, weights_only=True, verbose=False)
            score = cli.trainer.callback_metrics["val/map"]
        if test:
            cli.trainer.test(cli.model, datamodule=cli.datamodule, ckpt_path=best, weights_only=True, verbose=False)
            leave_outputs(cli)
        if shared:  # so that the run is whole without the other
            cli.trainer.save_checkpoint(folder / "best.ckpt")
        epochs = read_result(shared.parents[1] / "result.json")["epochs"] if shared else None
        path = leave_record(cli, started, {"val/map": float(score), **cli.model.results}, epochs)
        if test and cli.own_code and cli.trainer.is_global_zero:
            tell_of_others(cli.trainer, cli.config_dump["model"], folder / "best.ckpt")  # its own
        return path


def evaluate(arguments: Sequence[str], checkpoint: Path) -> Path:
    """Evaluate a checkpoint on the query set under the configuration it was trained with.

    Raises:
        UserError: there is no sound checkpoint, or it was trained with another configuration than the one asked for.
    """
    from xmodal.checkpoint import read_checkpoint
    from xmodal.cli import XmodalCLI

    started = time.perf_counter()
    asked_for = "\0".join([str(checkpoint.resolve()), *arguments])  # every checkpoint, and every way to ask it
    mark = hashlib.sha256(asked_for.encode()).hexdigest()[:8]
    own = [f"--variant=test-{mark}", "--job_type=test", "--trainer.default_root_dir=null"]
    with XmodalCLI([*arguments, *own], checkpoints=False) as cli:
        asked, trained = cli.model.hparams, read_checkpoint(checkpoint)["hyper_parameters"]
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
        if file.parent.name == "tuned" and file.is_file() and file.read_text("utf-8") == cli.given.text:  # as it was
            log_file(loggers, file, f"{name}-tuned", "configuration", origin)
    if cli.config.save_codes:
        write_atomically(cli.folder / "codes.npz", lambda file: np.savez_compressed(file, **outputs))
        origin["split_hash"] = cli.datamodule.describe()["split_hash"]
        log_file(loggers, cli.folder / "codes.npz", f"{name}-{cli.folder.name}-codes", "codes", origin)


def leave_record(cli: "XmodalCLI", started: float, metrics: dict[str, float], epochs: int | None = None) -> Path:
    """Write `result.json`, the record, with `epochs` where they are not those of the trainer; say its path.

    Commit, versions, machine and seconds are of this process; `earlier` names those that trained the weights before it.
    """
    from xmodal.records import machine, provenance, write_result
    from xmodal.records.loggers import log_record, run_id

    result: dict[str, Any] = {
        "method": cli.method,
        "kind": cli.model.kind,
        "size": cli.size,
        "output_size": cli.model.output_size,
        "seed": cli.config.seed_everything,
        "variant": cli.variant,
        "group": cli.group,
        "job_type": cli.config.job_type,
        "trials": cli.given.trials,
        "overrides": cli.given.overrides,
        **cli.datamodule.describe(),
        "metrics": metrics,
        "conventions": cli.model.conventions(),
        "epochs": cli.trainer.current_epoch if epochs is None else epochs,
        "parameters": sum(parameter.numel() for parameter in cli.model.parameters()),
        "config_hash": cli.hash,
        "setup_hash": cli.setup_hash,
        **provenance(),
        "own_code": cli.own_code,
        **machine(cli.trainer.strategy.root_device),
        "devices": cli.trainer.world_size,
        "precision": cli.trainer.precision,
        "seconds": round(time.perf_counter() - started, 3),
        "earlier": cli.origin.earlier,
        "wandb_id": run_id(cli.trainer.loggers),
    }
    path = cli.folder / "result.json"
    if cli.trainer.is_global_zero:
        log_record(cli.trainer.loggers, metrics)
        write_result(cli.folder, result)
    return path
