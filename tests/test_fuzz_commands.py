"""Odd command lines and sweep files: one line or a sound configuration, never a traceback or a wait.

`XMODAL_FUZZ=3000 pytest tests/test_fuzz_commands.py` tries more, `XMODAL_FUZZ_FROM=5000` others.
"""

import os
import random
import time
import traceback

import pytest
import yaml

from tests.conftest import CHECKOUT
from xmodal import methods, run
from xmodal.__main__ import main
from xmodal.cli import Parsed, XmodalCLI
from xmodal.commands import ablate, bits, sweep
from xmodal.errors import UserError

LINES = int(os.environ.get("XMODAL_FUZZ", "150"))
FIRST = int(os.environ.get("XMODAL_FUZZ_FROM", "0"))
SLOW = 20  # seconds of the processor
NUMBERS = [0, 1, -1, 0.5, 1e-9, 10**30, 1e308, float("nan"), float("inf"), "a", None, True]
WORDS = """null nan .inf -1 0 1 3 1.5 1e300 1e999 2**3 0x10 1_000 1:30 true True no abc é a,b , 1,2 1,1 1.e3 -0 1e-300
4096 65536 2026-11-27 ../.. .. / /dev/null ~ = %s @x [] [1,2] [a] [null] [[[ {} { *a ' " << - -- a.b cpu gpu tpu auto
ddp fsdp 16-mixed bf16-true standard xmodal.methods.DMSF DCMH os.system torch.nn.Linear {class_path:EarlyStopping}"""
VALUES = [*WORDS.split(), "", "\t", "\n", "a\nb", "\u2028", "a b", "{a: 1}", "{a: {b: [1]}}", "&a [*a]", ": ", "- 1"]
VALUES += ["? :", "!!binary x", "!!python/object:os.system x", "{class_path: EarlyStopping}", "1 # 2"]
VALUES += ["x" * 5000, "[" * 500, "9" * 400]
SHORT = ["bits", "dim", "seed", "epochs", "devices"]
RUN = [*SHORT, "config", "c", "overwrite", "ckpt_path"]
SEARCH = ["trials", "minutes", "sampler", "sampler_seed", "pruner", "warm_start", "against", "workers", "job", "x"]
PREPARE = ["root", "protocol", "dialect", "selection", "query", "train", "val", "max_corrupt"]
OPTIONS = {
    "train": RUN,
    "fit": RUN,
    "test": RUN,
    "sweep": [*SHORT, *SEARCH],
    "ablate": [*SHORT, "seeds", "workers"],
    "bits": [*SHORT, "seeds", "workers"],
    "plots": ["bits", "dim", "against"],
    "compare": ["methods", "data", "bits", "format"],
    "prepare": PREPARE,
    "datasets": ["root"],
    "evaluate": ["kind", "topk", "help"],
}


@pytest.fixture(scope="module")
def keys():
    """Every key of the configuration, by method."""
    return {
        name: sorted(Parsed([*run.configuration(name, "emoji")]).given.known)
        for name in methods.registry()
        if (CHECKOUT / "experiments" / name / "emoji.yaml").is_file()
    }


@pytest.fixture
def checked(home, monkeypatch):
    """Commands that build what they would train, and stop there."""

    def stop(*args, **kwargs):
        raise UserError("checked")

    def build(arguments, *args, **kwargs):
        XmodalCLI(arguments, loggers=False)
        stop()

    monkeypatch.chdir(home)
    monkeypatch.setattr(run, "train", build)
    monkeypatch.setattr(sweep, "supervise", stop)
    for module in (ablate, bits):
        monkeypatch.setattr(module.Grid, "setups", stop)
    return home


def outcome(command, capsys):
    """Exit status, what was said on stderr, and what is wrong with it."""
    started, wrong, code = time.process_time(), "", None
    try:
        code = main(command)
    except SystemExit as end:  # argparse
        code = end.code
    except BaseException:
        wrong = traceback.format_exc()
    err = capsys.readouterr().err
    said = [line for line in err.split("\n") if line.startswith("xmodal ")]
    if time.process_time() - started > SLOW:
        wrong += "slow"
    last = err.split("\n")[-2:] == [*said, ""] or err.startswith("usage: ")  # argparse repeats what was given
    if code not in (0, 2) or "Traceback" in err or (not last if code else said):
        wrong += f"exit {code}: {err}"
    return code, err, f"{command}: {wrong[-3000:]}" if wrong else ""


def line(draw, keys):
    """A command line: mostly sound words, with some that are odd."""
    command = draw.choice([*OPTIONS, "train", "train", "sweep"])
    method = draw.choice([*keys, *keys, *VALUES])
    words = [command]
    if command == "prepare":
        words += [draw.choice(["emoji", "flickr8k", "wikipedia", draw.choice(VALUES)])]
    elif command in ("evaluate", "test"):
        words += [draw.choice(VALUES)]
    elif command not in ("compare", "datasets"):
        words += [method, "emoji" if draw.random() < 0.8 else draw.choice(VALUES)]
    words += ["--bits=16"] if command in ("sweep", "ablate", "plots") and draw.random() < 0.8 else []
    for _ in range(draw.choice([0, 1, 1, 2, 3])):
        configured = command in ("train", "fit", "test", "ablate", "bits") and draw.random() < 0.8
        key = draw.choice(keys.get(method, keys["dmsf"]) if configured else OPTIONS[command])
        if draw.random() < 0.1:
            key = key[: draw.randrange(len(key) + 1)] + draw.choice(["", ".", "x", "=", "-", "."])
        value = draw.choice(VALUES)
        words += draw.choice([[f"--{key}={value}"]] * 4 + [[f"--{key}", value], [f"--{key}"], [value]])
    return words


@pytest.mark.timeout(max(300, LINES))
def test_command_lines(checked, capsys, keys):
    refused, wrong = 0, []
    for seed in range(FIRST, FIRST + LINES):
        code, err, fault = outcome(line(random.Random(seed), keys), capsys)
        refused += code == 2 and "checked" not in err
        wrong += [fault] if fault else []
    assert not wrong, "\n\n".join(wrong)
    assert 0 < refused < LINES


SOUND = (CHECKOUT / "sweeps" / "dmsf.yaml").read_text()


def sweep_file(draw, keys):
    """The text of a sweep file: a sound one with an odd part, or with damaged text."""
    content = yaml.safe_load(SOUND)
    space = content["space"]
    for _ in range(draw.choice([1, 1, 2])):
        odd = draw.choice(
            [*VALUES, None, -1, 0, 1.5, True, [], {}, [None], {"name": "tpe"}, {"x": []}, float("nan"), 10**30]
        )
        axis = draw.choice([*space, *keys["dmsf"]])
        numbers = [
            odd,
            *draw.sample([0, 1, -1, 0.5, 1e-9, 10**30, 1e308, float("nan"), float("inf"), "a", None, True], 2),
        ]
        draw.shuffle(numbers)
        kind = draw.choice(["float", "int", "choice", "log", "when", str(odd)])
        change = draw.randrange(7)
        if change == 0:
            content[draw.choice(["trials", "minutes", "sampler", "pruner", "space", "more"])] = odd
        elif change == 1:
            name = draw.choice(
                ["tpe", "gp", "random", "grid", "cmaes", "median", "hyperband", "percentile", "threshold"]
            )
            named = {
                "name": name,
                draw.choice(["seed", "n_startup_trials", "n_warmup_steps", "percentile", "upper"]): odd,
            }
            content[draw.choice(["sampler", "pruner"])] = named
        elif change == 2:
            space[axis] = odd
        elif change == 3:
            space[axis] = {kind: odd}
        elif change == 4:
            space[axis] = {kind: numbers[: draw.randrange(4)]}
        elif change == 5:
            space[axis] = {kind: numbers[:2], draw.choice(["log", "step", "when", "choice", "x"]): odd}
        else:
            space[axis] = {"float": [0.1, 0.5], "when": {draw.choice([*space, axis]): draw.choice([odd, [odd]])}}
        if not isinstance(content.get("space"), dict):
            break
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    if draw.random() < 0.2:
        place = draw.randrange(len(text))
        text = text[:place] + draw.choice([*VALUES, "\0", "\ufeff", "\r"]) + text[place + draw.randrange(5) :]
    return text


@pytest.mark.timeout(max(300, LINES))
def test_sweep_files(checked, capsys, keys):
    sound, wrong = 0, []
    for seed in range(FIRST, FIRST + LINES):
        text = SOUND if seed % 30 == 7 else sweep_file(random.Random(10**6 + seed), keys)  # one in a hundred is sound
        (checked / "sweeps" / "dmsf.yaml").write_text(text, encoding="utf-8")
        _, err, fault = outcome(["sweep", "dmsf", "emoji", "--bits=16", f"--storage=sqlite:///{seed}.db"], capsys)
        sound += err.endswith("checked\n")
        wrong += [f"{seed}: {fault}"] if fault else []
    assert not wrong, "\n\n".join(wrong)
    assert 0 < sound < LINES
