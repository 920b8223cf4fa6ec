"""A run of random settings gives one number: killed and gone on, replayed, tested again, and judged from its codes.

`XMODAL_FUZZ_RUNS=300 pytest tests/test_fuzz_runs.py` tries more, `XMODAL_FUZZ_FROM=5000` others,
`XMODAL_FUZZ_DEVICES=2` on as many processes, and `XMODAL_FUZZ_DEVICE=gpu` on GPUs, where embeddings have other sums
than in a file that is judged on the CPU.
"""

import json
import math
import os
import random
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from tests import forks
from tests.conftest import CHECKOUT
from xmodal import methods
from xmodal.checkpoint import read_checkpoint
from xmodal.commands.evaluate import evaluate_file
from xmodal.experiment import size_names

RUNS = int(os.environ.get("XMODAL_FUZZ_RUNS", "3"))
FIRST = int(os.environ.get("XMODAL_FUZZ_FROM", "8"))
DEVICE = os.environ.get("XMODAL_FUZZ_DEVICE", "cpu")
DEVICES = os.environ.get("XMODAL_FUZZ_DEVICES", "1")
CHOICES = {  # by key: how often it is given, and its values; one that a method does not take is refused in a sentence
    "data.batch_size": (0.6, [5, 16, 32, 100, 256, 3000]),
    "data.drop_last": (0.2, ["true"]),
    "data.per_label": (0.25, [1, 2, 4]),
    "data.database": (0.25, ["train"]),
    "data.relevance": (0.2, ["label", "finest"]),
    "data.image_scaling": (0.25, ["none", "standard"]),
    "data.text_scaling": (0.25, ["none", "standard"]),
    "trainer.accumulate_grad_batches": (0.2, [2, 3]),
    "trainer.gradient_clip_val": (0.2, [0.1, 1.0]),
    "trainer.check_val_every_n_epoch": (0.25, [2]),
    "trainer.limit_train_batches": (0.2, [1, 3, 0.5]),
    "trainer.precision": (0.2, ["bf16-mixed", "16-mixed"]),
}
STOPPING = ["=EarlyStopping", ".monitor=val/map", ".mode=max", ".patience=1"]


def drawn(rng, axis):
    """A value of an axis of a sweep file."""
    ((kind, span),) = ((each, axis[each]) for each in ("float", "int", "choice") if each in axis)
    if kind == "choice":
        return rng.choice(span)
    low, high = (math.log(each) for each in span) if axis.get("log") else span
    value = rng.uniform(low, high)
    value = math.exp(value) if axis.get("log") else value
    return round(value) if kind == "int" else value


def settings(rng):
    """A command line: a method, a size, some of its searched settings, an ablation or none, data and trainer."""
    method = rng.choice(sorted(name for name in methods.registry() if (CHECKOUT / f"sweeps/{name}.yaml").is_file()))
    words = [method, "emoji", f"--{rng.choice(size_names(method))}={rng.choice([4, 7, 12, 16, 32])}"]
    space = yaml.safe_load((CHECKOUT / f"sweeps/{method}.yaml").read_text())["space"]
    words += [f"--{key}={drawn(rng, axis)}" for key, axis in space.items() if rng.random() < 0.3]
    ablations = sorted((CHECKOUT / "experiments" / method / "ablations").glob("*.yaml"))
    words += [f"--config={rng.choice(ablations)}"] if ablations and rng.random() < 0.35 else []
    words += [f"--{key}={rng.choice(of)}" for key, (often, of) in CHOICES.items() if rng.random() < often]
    words += [f"--trainer.callbacks{each}".replace("s=", "s+=") for each in STOPPING] if rng.random() < 0.2 else []
    words += [f"--data.subset={rng.choice([64, 200])}", f"--epochs={rng.choice([2, 3, 4])}"]
    seed = rng.choice([0, 12345, 2**32 - 1])
    return [*words, f"--seed={seed}", f"--trainer.accelerator={DEVICE}", f"--trainer.devices={DEVICES}"]


def die_at(write):
    """Let the process be killed before it opens or renames its so-manieth file of a run."""
    left = iter(range(write))

    def listen(event, arguments):
        opens = event == "open" and isinstance(arguments[0], str) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if (opens or event == "os.rename") and "/runs/" in str(arguments[0]) and next(left, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(listen)


def command(home, *words, **more):
    """A command in a home of its own."""
    home.mkdir(exist_ok=True)
    return forks.run(*words, folder=home, XMODAL_HOME=str(home), **more)


def left(home):
    """Metrics and last weights of the only run in a home, and its folder."""
    (path,) = (each for each in (home / "runs").rglob("result.json") if not each.parent.name.startswith("test-"))
    metrics = {k: v for k, v in json.loads(path.read_text())["metrics"].items() if not math.isnan(v)}
    return metrics, read_checkpoint(path.parent / "checkpoints" / "last.ckpt")["state_dict"], path.parent


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("case", range(FIRST, FIRST + RUNS))
def test_a_run_of_random_settings_gives_one_number(home, case):
    rng = random.Random(case)
    words = ["train", *settings(rng), "--save_codes=true", "--gallery=false"]
    ran = command(home / "whole", *words)
    assert "Traceback" not in ran.stderr, ran.stderr[-2000:]
    if ran.returncode == 2:
        assert ran.stderr.splitlines()[-1].startswith("xmodal train: "), ran.stderr[-500:]
        return
    assert ran.returncode == 0, ran.stderr[-2000:]
    metrics, weights, folder = left(home / "whole")

    for write in (rng.randrange(80), rng.randrange(40), None):
        ran = command(home / "killed", *words, prepare=write and partial(die_at, write))
    assert ran.returncode == 0, ran.stderr[-2000:]
    again, last, _ = left(home / "killed")
    assert again == metrics, words
    assert all(torch.equal(weights[name], last[name]) for name in weights), words

    ran = command(home / "replayed", "train", f"--config={folder / 'config.yaml'}")
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert left(home / "replayed")[0] == metrics, words

    ran = command(home / "whole", "test", f"--ckpt_path={folder / 'checkpoints' / 'best.ckpt'}")
    assert ran.returncode == 0, ran.stderr[-2000:]
    tested = json.loads(Path(ran.stdout.splitlines()[-1]).read_text())["metrics"]
    assert tested == {name: value for name, value in metrics.items() if name.startswith("test/")}, words

    if DEVICE == "cpu" or "--bits" in words[3]:
        judged = evaluate_file(folder / "codes.npz").metrics
        assert {name: metrics[f"test/{name}"] for name in judged if f"test/{name}" in metrics} == judged, words
