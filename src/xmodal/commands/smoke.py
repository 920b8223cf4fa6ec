"""`xmodal smoke`: one epoch of every registered method on 64 pairs of emoji, then an evaluation."""

import argparse
import json
import sys
import time
from collections.abc import Sequence

from xmodal import paths
from xmodal.errors import UserError
from xmodal.run import configuration, experiment_file, size_names, train
from xmodal.safe_yaml import read_yaml

SIZE = 16


def main(argv: Sequence[str]) -> int:
    """Train and evaluate every method that is registered; a method without an experiment file for emoji is an error."""
    argparse.ArgumentParser(prog="xmodal smoke", description=main.__doc__).parse_args(list(argv))
    from xmodal import methods

    for name in methods.registry():
        started = time.perf_counter()
        rest = ["--data.subset=64", "--trainer.max_epochs=1", "--variant=smoke", "--job_type=smoke"]
        unit = size_names(name)[0]
        chosen = read_yaml(experiment_file(name, "emoji"))["model"].get("init_args", {})
        if unit not in chosen:  # a size that the file chose is the size of its trunks
            rest.append(f"--model.{unit}={SIZE}")
        record = json.loads(train([*configuration(name, "emoji"), *rest]).read_text())
        score = record["metrics"]["test/map"]
        if not 0 < score <= 1:
            raise UserError(f"{name}: test/map is {score} after the smoke run.")
        sys.stdout.write(f"{name:26} test/map {score:.4f}  {time.perf_counter() - started:.1f} s\n")
    sys.stdout.write(f"{len(methods.registry())} methods trained and evaluated; records under {paths.runs()}\n")
    return 0
