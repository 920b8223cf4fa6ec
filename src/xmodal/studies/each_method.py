"""`METHOD=dmsf,dcmh` or `METHOD=all` of `sweep`, `ablate` and `bits`: one method after another."""

import argparse
import sys
import traceback
from collections.abc import Callable

from xmodal import paths
from xmodal.errors import UserError
from xmodal.experiment import PATTERN, Experiment, experiment, size_names
from xmodal.records.wandb_mode import mode


def each_method(
    options: argparse.Namespace,
    run: Callable[[argparse.Namespace], None],
    ready: Callable[[str], bool],
) -> int:
    """Run a command for every method that `options.method` names; one that fails does not keep the others from running.

    The command gets the names of method and dataset, and their experiment file as `base`.

    Where both `bits` and `dim` are given, a method takes the one that is its own (`bits`, if it has both).

    Args:
        options: the command line.
        run: the command for one method.
        ready: whether a method has the files that the command needs; `all` leaves the others out.

    Returns:
        0, the exit status of a command that did all.

    Raises:
        UserError: an unknown method or WANDB_MODE, a tuned file in place of a dataset, nothing to run, or methods
            failed; the others have run by then.
    """
    chosen, left_out = options.method.split(","), list[str]()
    if options.method == "all":
        file = PATTERN if "." in options.data else options.data  # of data of one's own: all that run on such data
        there = paths.methods(file)
        chosen = [name for name in there if ready(name) and _fits(options, name)]
        left_out = [name for name in there if name not in chosen]
    if not chosen or len(set(chosen)) < len(chosen):
        raise UserError(f"METHOD is {options.method!r}, which names no method for {options.data!r}, or one twice.")
    plans = [experiment(name, options.data) for name in chosen]
    if plans[0].file.parent.name == "tuned":  # its runs would take the place of those that are tuned on the dataset
        raise UserError(f"DATA is {options.data!r}, a file that a sweep wrote: name the dataset, such as emoji.")
    mode()  # whether W&B answers is asked once, not by every trial
    if len(plans) == 1:
        run(_of_method(options, plans[0]))
        return 0
    left = f" (left out, for want of files or of a size: {', '.join(left_out)})" if left_out else ""
    sys.stderr.write(f"{len(plans)} methods: {', '.join(plan.method for plan in plans)}{left}\n")
    failed = []
    for number, plan in enumerate(plans, 1):
        name = plan.method
        sys.stderr.write(f"\n{name}, {number} of {len(plans)}\n")
        try:
            run(_of_method(options, plan))
        except UserError as error:
            failed.append(name)
            sys.stderr.write(f"{name} failed: {error}\n")
        except Exception:  # a night does not end with one method
            failed.append(name)
            sys.stderr.write(f"{name} failed:\n{traceback.format_exc()}")
    if failed:
        raise UserError(
            f"{len(failed)} of {len(chosen)} methods failed: {', '.join(failed)}. The reasons are above. "
            "The same command goes on with them."
        )
    return 0


def _fits(options: argparse.Namespace, name: str) -> bool:
    """Whether a method takes a size that is given, or none is."""
    given = {kind for kind in ("bits", "dim") if getattr(options, kind) is not None}
    return not given or bool(given.intersection(size_names(name)))


def _of_method(options: argparse.Namespace, plan: Experiment) -> argparse.Namespace:
    name = plan.method
    own: dict[str, object] = {"method": name, "data": plan.dataset, "base": plan.file}
    if ("," in options.method or options.method == "all") and options.bits is not None and options.dim is not None:
        own["dim" if "bits" in size_names(name) else "bits"] = None
    return argparse.Namespace(**vars(options) | own)
