"""One run through the command line, as a user types it."""

import hashlib
import json
import logging
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests import forks
from xmodal import paths
from xmodal.__main__ import main
from xmodal.commands.evaluate import evaluate_file
from xmodal.data import Emoji, Pairs
from xmodal.encoders import OpenClipText
from xmodal.run import scores, train

TEST = ("test/map_i2t", "test/map_t2i")
SMALL = ("--data.subset=64", "--gallery=false")


def run(capsys, *argv):
    code = main([str(argument) for argument in argv])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def record_of(out):
    return json.loads(Path(out.splitlines()[-1]).read_text())


def weights(folder):
    state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    digest = hashlib.sha256()
    for name in sorted(state):
        digest.update(name.encode() + state[name].cpu().numpy().tobytes())
    return digest.hexdigest()


def test_a_run_leaves_its_record(home, offline, capsys):
    code, out, _ = run(
        capsys, "train", "dmsf", "emoji", "--bits", 16, "--seed", 3, "--epochs", 2, *SMALL, "--save_codes=true"
    )
    assert code == 0
    record = record_of(out)
    assert Path(out.splitlines()[-1]) == home / "runs" / "dmsf" / "emoji" / "16" / "seed3" / "result.json"
    assert {
        "method": "dmsf",
        "size": 16,
        "seed": 3,
        "kind": "binary",
        "dataset": "emoji",
        "epochs": 2,
    }.items() <= record.items()
    assert record["overrides"] == {"data.subset": "64", "trainer.max_epochs": "2"}
    metrics = record["metrics"]
    validation, i2t, t2i, mean = (f"{metrics[name]:.4f}" for name in ("val/map", *TEST, "test/map"))
    assert out.splitlines()[-2] == f"mAP@all: validation {validation}; query set i2t {i2t}, t2i {t2i}, mean {mean}"
    assert scores({"val/map": metrics["val/map"]}) == f"mAP@all: validation {validation}"  # of `fit`
    assert metrics["test/map"] == pytest.approx((metrics["test/map_i2t"] + metrics["test/map_t2i"]) / 2, abs=1e-15)
    assert record["conventions"].keys() >= metrics.keys() - {"test/map", "val/map"}
    assert record["split_sizes"]["query"] == 16
    for key in (
        "config_hash",
        "setup_hash",
        "split_hash",
        "versions",
        "device",
        "threads",
        "vectors",
        "blas",
        "precision",
        "inputs_hash",
        "seconds",
        "peak_memory",
        "wandb_id",
        "dirty",
    ):
        assert record[key] not in (None, ""), key
    folder = home / "runs" / "dmsf" / "emoji" / "16" / "seed3"
    codes = np.load(folder / "codes.npz")
    assert set(np.unique(codes["query_image"])) == {-1, 1}
    assert codes["query_image"].shape == (16, 16)
    assert record["output_size"] == 16
    found = evaluate_file(folder / "codes.npz").metrics
    assert {f"test/{key}": value for key, value in found.items()}.items() <= metrics.items()
    evaluation = np.load(folder / "evaluation.npz")
    assert evaluation["ap_i2t"].mean() == pytest.approx(metrics["test/map_i2t"], abs=1e-12)
    assert not [path for path in folder.rglob("*") if path.name.startswith(".")]


def test_the_saved_configuration_replays_the_run(home, capsys):
    _, out, _ = run(capsys, "train", "dmsf", "emoji", "--bits", 16, "--epochs", 2, *SMALL)
    first = record_of(out)
    config = Path(out.splitlines()[-1]).parent / "config.yaml"
    copy = home / "again.yaml"
    copy.write_text(config.read_text())
    _, out, _ = run(capsys, "train", "--config", copy)
    again = record_of(out)
    assert again["config_hash"] == first["config_hash"]
    assert again["metrics"] == first["metrics"]


def test_a_checkpoint_evaluates_to_the_same_numbers_and_not_on_what_it_was_trained_on(home, capsys, monkeypatch):
    _, out, _ = run(capsys, "train", "dmsf", "emoji", "--bits", 16, "--epochs", 2, *SMALL)
    trained, checkpoint = record_of(out), Path(out.splitlines()[-1]).parent / "checkpoints" / "best.ckpt"
    code, out, err = run(capsys, "test", "--ckpt_path", checkpoint)
    assert (code, err) == (0, "")
    evaluated = record_of(out)["metrics"]
    assert evaluated == {name: value for name, value in trained["metrics"].items() if name != "val/map"}
    with monkeypatch.context() as patch:  # the pictures of its training pairs are others by now
        patch.setattr(Pairs, "moments", lambda self, side, *_, **__: (torch.ones(self.size(side, "pooled")),) * 2)
        hashes = Pairs.hashes
        patch.setattr(Pairs, "hashes", lambda *args: hashes(*args) | {"inputs_hash": "other"})
        code, out, err = run(capsys, "test", "--ckpt_path", checkpoint)
        assert record_of(out)["metrics"] == evaluated
        was = trained["inputs_hash"]
        said = f"it was trained by other code or inputs so far (inputs_hash {was}, not other); the record names both\n"
        assert err == said
    code, out, err = run(capsys, "test", "--ckpt_path", checkpoint, "--data.database=train")  # other pairs are searched
    assert (code, err) == (0, "")
    assert record_of(out)["split_sizes"]["database"] > trained["split_sizes"]["database"]
    split = Emoji().split()  # and as another protocol draws as many
    other = replace(split, train=split.query, query=split.train, database=split.train)
    monkeypatch.setattr(Emoji, "split", lambda _: other)
    code, _, err = run(capsys, "test", "--ckpt_path", checkpoint)
    assert code == 2
    assert "16 of 16 queries of this split are of pictures that the checkpoint was trained on" in err
    assert Emoji(text_encoder=OpenClipText(weights=str(checkpoint))).learnt() == {checkpoint}  # nor a trunk
    monkeypatch.setattr(Emoji, "learnt", lambda _: {checkpoint})
    code, _, err = run(capsys, "fit", "dmsf", "emoji", "--bits", 16, "--variant=other", *SMALL)
    assert code == 2
    assert f"16 of 16 queries of this split are of pictures that {checkpoint} was trained on" in err


def test_a_checkpoint_of_another_configuration_is_refused(home, capsys):
    _, out, _ = run(capsys, "train", "dmsf", "emoji", "--bits", 16, "--epochs", 1, *SMALL)
    checkpoint = Path(out.splitlines()[-1]).parent / "checkpoints" / "best.ckpt"
    code, _, err = run(capsys, "test", "--ckpt_path", checkpoint, "--bits", 32)
    assert code == 2
    assert "bits is 16 in the checkpoint, 32 asked for" in err
    code, _, err = run(capsys, "test", "--ckpt_path", checkpoint, "--data.relevance=finest")
    assert code == 2
    assert "layer_sizes is () in the checkpoint, (8, 96) asked for" in err


def test_a_checkpoint_older_than_an_argument_evaluates_to_the_same_numbers(home, capsys):
    """What the constructor of its time did not have cannot contradict what is asked for."""
    _, out, _ = run(capsys, "train", "dcmht", "emoji", "--bits", 16, "--epochs", 1, *SMALL)
    trained, folder = record_of(out)["metrics"], Path(out.splitlines()[-1]).parent
    checkpoint = folder / "checkpoints" / "best.ckpt"
    state = torch.load(checkpoint, weights_only=False)  # our own, of a moment ago
    for name in ("init", "standardised"):
        del state["hyper_parameters"][name]
    torch.save(state, checkpoint)
    code, out, err = run(capsys, "test", "--ckpt_path", checkpoint)
    assert code == 0, err
    assert record_of(out)["metrics"] == {name: value for name, value in trained.items() if name != "val/map"}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dmsf", "cca"])
def test_a_killed_run_goes_on_and_ends_the_same(home, method, capsys):
    """Killed by SIGKILL after its second epoch, then the same command: bit-equal to the run that was left alone."""
    arguments = ["train", method, "emoji", "--bits=16", "--epochs=4", "--data.batch_size=8", *SMALL]
    folder = Path(run(capsys, *arguments)[1].splitlines()[-1]).parent
    expected = json.loads((folder / "result.json").read_text())["metrics"], weights(folder)
    (folder / "result.json").unlink()
    for name in ("best.ckpt", "last.ckpt"):
        (folder / "checkpoints" / name).unlink()
    process = forks.start(*arguments, out=home / "log")
    while not (folder / "checkpoints" / "last.ckpt").is_file() and process.is_alive():
        time.sleep(0.002)
    process.kill()
    process.join()
    assert not (folder / "result.json").is_file()
    assert "going on from" in run(capsys, *arguments)[2]
    assert (json.loads((folder / "result.json").read_text())["metrics"], weights(folder)) == expected


BAD = [
    (["train", "dsmf", "emoji"], "METHOD is 'dsmf' (did you mean dmsf?); the methods are: acmr, "),
    (["train", "dmsf", "imagenet"], "DATA is 'imagenet'; dmsf has experiment files for: emoji, fashion"),
    (["train", "dmsf", "emoji", "--bits", "0"], "BITS is '0': give a whole number from 1 to 4096"),
    (["train", "dmsf", "emoji", "--bits", "-3"], "BITS is '-3': give a whole number from 1 to 4096"),
    (["train", "dmsf", "emoji", "--bits", "abc"], "BITS is 'abc': give a whole number from 1 to 4096"),
    (["train", "dmsf", "emoji", "--bits", "4097"], "BITS is '4097'"),
    (["train", "dmsf", "emoji", "--dim", "64"], "dmsf takes BITS: its codes are binary"),
    (["train", "dmsf", "emoji", "--dim", "64", "--bits", "64"], "not both"),
    (["train", "cca", "emoji"], "either bits"),
    (["train", "dmsf", "emoji", "--bits=16", "--model.bits=32"], "--model.bits is given beside the short option"),
    (["train", "dmsf", "emoji", "--seed=1", "--seed_everything", "2"], "--seed_everything is given beside the short"),
    (["ablate", "dmsf", "emoji", "--bits=16", "--seed_everything=1"], "--seed_everything is given beside the short"),
    (["bits", "dmsf", "emoji", "--model.init_args.bits=16"], "--model.bits is given beside the short option"),
    (["train", "dmsf", "emoji", "--seed", "x"], "SEED is 'x'"),
    (["train", "dmsf", "emoji", "--seed", str(2**32)], "SEED is '4294967296': give a whole number from 0 to 429496729"),
    (["train", "dmsf", "emoji", f"--seed_everything={2**32}"], "seed_everything is 4294967296: give an int from 0 to"),
    (["ablate", "dmsf", "emoji", "--bits=16", f"--seeds={2**32}"], "SEEDS is '4294967296'"),
    (["train", "dmsf", "emoji", "--epochs", "0"], "EPOCHS is '0'"),
    (["train", "dmsf"], "name a method and a dataset"),
    (["train"], "name a method and a dataset"),
    (["train", "--config", "nowhere.yaml"], "no configuration file nowhere.yaml"),
    (["train", "dmsf", "emoji", "--model.fusion=cubist"], "cubist"),
    (["train", "dmsf", "emoji", "--model.weights.pairwise=1"], "pairwise"),
    (["train", "dmsf", "emoji", "--nonsense=1"], "nonsense"),
    (["train", "dmsf", "emoji", "--seed_everything=false"], "give an int"),
    (["train", "dmsf", "wikipedia", "--data.root=/nowhere"], "Expected there: raw_features.mat"),
    (["test", "--ckpt_path", "/nowhere/checkpoints/best.ckpt"], "no configuration file"),
    (["fly"], "no such command; the commands are: train, fit, test"),
    (["trian"], "no such command (did you mean train?); the commands are: train"),
    (["train", "dmsf", "emojis"], "DATA is 'emojis' (did you mean emoji?); dmsf has"),
    (["sweep", "dmsf", "emoji"], "name the size of the study"),
    (["sweep", "dmsf", "emoji", "--bits", "abc"], "BITS is 'abc'"),
    (["sweep", "dmsf", "emoji", "--bits", "16,,32"], "BITS is ''"),
    (["sweep", "dmsf", "emoji", "--bits", "16", "--trials", "-1"], "TRIALS is '-1'"),
    (["prepare", "imagenet"], "no dataset 'imagenet'; the datasets are: emoji"),
]


@pytest.mark.parametrize(("argv", "message"), BAD)
def test_what_cannot_be_run_is_said_in_one_line(home, capsys, argv, message):
    code, out, err = run(capsys, *argv)
    assert code == 2
    assert message in err
    assert "Traceback" not in err
    assert err.count("\n") == 1
    assert not out
    assert not list((home / "runs").rglob("*.*")), "something was written"


def test_an_unwritable_runs_folder_is_said(home, capsys):
    (home / "runs").write_text("a file in its place")
    for argv in (["train", "cca", "emoji", "--bits", "16", *SMALL], ["sweep", "dmsf", "emoji", "--bits", "16"]):
        code, _, err = run(capsys, *argv)
        assert code == 2
        assert "cannot" in err
        assert str(paths.runs()) in err
        assert err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_smoke_and_compare_cover_every_method(home, capsys):
    from xmodal import methods

    code, out, _ = run(capsys, "smoke")
    assert code == 0
    assert all(f"{name} " in out for name in methods.registry())
    train(
        [f"--config={home / 'experiments' / name}.yaml" for name in ("default", "cca/emoji")]
        + ["--model.bits=16", *SMALL]
    )
    code, out, _ = run(capsys, "compare")
    assert code == 0
    lines = out.splitlines()
    assert lines[0].split()[:3] == ["method", "dataset", "size"]
    assert len(lines) == 2  # smoke runs are no results
    assert lines[1].split()[:4] == ["cca", "emoji", "16", "bits"]
    assert run(capsys, "compare", "--format=csv")[1].splitlines()[1].startswith("cca,emoji,16 bits,base,0,0.")
    assert run(capsys, "compare", "--format=markdown")[1].splitlines()[1].startswith("| --- | --- |")


def test_a_profiler_that_was_asked_for_is_printed(home, offline, capsys, caplog):
    logging.getLogger("lightning.pytorch").addHandler(caplog.handler)
    try:
        run(capsys, "train", "dmsf", "emoji", "--bits", 16, "--epochs", 1, *SMALL, "--trainer.profiler=simple")
    finally:
        logging.getLogger("lightning.pytorch").removeHandler(caplog.handler)
    assert "FIT Profiler Report" in caplog.text
