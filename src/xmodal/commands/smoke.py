"""`xmodal smoke`: one epoch of every registered method on 64 pairs of emoji, then an evaluation."""

import sys
import time
from collections.abc import Sequence

from xmodal import arguments, paths
from xmodal.errors import UserError
from xmodal.experiment import configuration, experiment, size_names
from xmodal.records.record import read_result
from xmodal.run import train
from xmodal.safe_yaml import read_yaml

SIZE = 16


def main(argv: Sequence[str]) -> int:
    """Train and evaluate every method that is registered, or those named; one without a file for the data is an error.

    Example: `xmodal smoke`, or `xmodal smoke my_method.py --data my.yaml`.
    """
    options = arguments.parser("smoke").parse_args(list(argv))
    from xmodal import methods

    names = options.methods or list(methods.registry())
    for given in names:
        started = time.perf_counter()
        file, name, _ = experiment(given, options.data)
        rest = ["--data.subset=64", "--trainer.max_epochs=1", "--variant=smoke", "--job_type=smoke"]
        unit = size_names(name)[0]
        chosen = read_yaml(file)["model"].get("init_args", {})
        if unit not in chosen:  # a size that the file chose is the size of its trunks
            rest.append(f"--model.{unit}={SIZE}")
        score = read_result(train([*configuration(None, None, [file]), *rest]))["metrics"]["test/map"]
        if not 0 < score <= 1:
            raise UserError(f"{name}: test/map is {score} after the smoke run.")
        sys.stdout.write(f"{name:26} test/map {score:.4f}  {time.perf_counter() - started:.1f} s\n")
    sys.stdout.write(f"{len(names)} methods trained and evaluated; records under {paths.runs()}\n")
    return 0
