"""The folder of a run: what may be cleared, what is left alone, and who may write there."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only

from tests.test_run import SMALL, record_of, run
from xmodal.data import make_split
from xmodal.errors import UserError
from xmodal.experiment import configuration
from xmodal.files import text_hash
from xmodal.folder import difference
from xmodal.records import provenance
from xmodal.records.record import mixed_sources, read_result
from xmodal.records.setups import DATA, Setup
from xmodal.relevance import Relevance
from xmodal.studies.grid import Grid, Run, check_data, origin
from xmodal.studies.processes import Pool


def test_another_configuration_asks_before_it_takes_the_place_of_a_run(home, capsys):
    command = ("train", "cca", "emoji", "--bits", 16, *SMALL)
    _, out, _ = run(capsys, *command)
    folder = Path(out.splitlines()[-1]).parent
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, _, err = run(capsys, *command, "--model.regularization=2")
    assert code == 2
    assert (
        "holds a run with model.regularization 100.0, not 2.0: give --variant=NAME to keep both, or --overwrite" in err
    )
    assert kept == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert run(capsys, *command, "--model.regularization=2", "--job_type=mine")[0] == 2, "a label overwrites nothing"
    (folder / "result.json").unlink()  # as if interrupted
    assert run(capsys, *command, "--model.regularization=2")[0] == 2
    code, out, err = run(capsys, *command, "--model.regularization=2", "--overwrite")
    assert code == 0
    assert "going on" not in err
    assert Path(out.splitlines()[-1]).parent == folder
    assert run(capsys, *command, "--model.regularization=2", "--save_codes=true")[0] == 0, (
        "the same run with more files"
    )
    _, out, _ = run(capsys, *command, "--variant=other")
    assert Path(out.splitlines()[-1]).parent.name == "other-seed0"


@pytest.mark.parametrize("config", [None, "model: mine\n", "seed_everything: 0\nmodel: {}\ndata: {}\n", "a: [1"])
def test_a_folder_that_no_run_wrote_is_left_alone(home, capsys, config):
    foreign = home / "foreign"
    for name in ("checkpoints", "metrics"):
        (foreign / name).mkdir(parents=True)
        (foreign / name / "mine.txt").write_text("mine")
    if config is not None:
        (foreign / "config.yaml").write_text(config)
    kept = {path: path.read_bytes() for path in foreign.rglob("*") if path.is_file()}
    for more in ((), ("--overwrite",)):
        command = ("train", "cca", "emoji", "--bits", 16, *SMALL, f"--trainer.default_root_dir={foreign}", *more)
        code, _, err = run(capsys, *command)
        assert code == 2
        assert "which no run here wrote: name another" in err
        assert kept == {path: path.read_bytes() for path in foreign.rglob("*") if path.is_file()}


def test_a_folder_of_one_word_is_a_folder(home, capsys, monkeypatch):
    monkeypatch.chdir(home)
    code, _, err = run(capsys, "train", "cca", "emoji", "--bits", 16, *SMALL, "--trainer.default_root_dir=mine")
    assert code == 0, err
    assert (home / "mine" / "result.json").is_file()


def test_another_seed_does_not_take_the_place_of_a_run(home, capsys):
    """Folders of the suite are named after seed and variant, one that somebody gives is not."""
    command = ("train", "cca", "emoji", "--bits", 16, *SMALL, f"--trainer.default_root_dir={home / 'mine'}")
    assert run(capsys, *command)[0] == 0
    for more in ("--seed=1", "--variant=other"):
        code, _, err = run(capsys, *command, more)
        assert code == 2
        assert "give another trainer.default_root_dir to keep both, or --overwrite" in err
    assert run(capsys, *command, "--seed=1", "--overwrite")[0] == 0


def test_two_runs_at_once_do_not_share_a_folder(home, capsys):
    """Or one could replace the other's configuration, and a record would lie beside a configuration not its own."""
    command = ("train", "cca", "emoji", "--bits", 16, *SMALL)
    _, out, _ = run(capsys, *command)
    folder = Path(out.splitlines()[-1]).parent
    kept = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    # as another run
    with subprocess.Popen(["flock", folder, "-c", "echo held; read line"], stdin=-1, stdout=-1) as other:
        other.stdout.readline()
        for more in ((), ("--overwrite", "--model.regularization=2")):
            code, _, err = run(capsys, *command, *more)
            assert code == 2
            assert f"another run is at work in {folder}: wait for it, or give --variant=NAME to keep both." in err
        assert kept == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        other.communicate(b"\n")
    assert run(capsys, *command)[0] == 0


def test_a_task_of_slurms_that_trains_alone_takes_its_folder(home, capsys, monkeypatch):
    """`srun` of two tasks without --devices: both trained in one folder, and one read the other's checkpoint."""
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # which Lightning reads off SLURM's variables
    code, out, _ = run(capsys, "train", "cca", "emoji", "--bits", 16, *SMALL)
    assert (code, rank_zero_only.rank) == (0, 0)
    assert Path(out.splitlines()[-1]).with_name("config.yaml").is_file()


@pytest.mark.parametrize("name", ["tuned", "tuned-at-64", "tuned-edited"])
def test_a_run_of_no_tuned_file_is_not_called_tuned(home, capsys, name):
    """It stood in `compare` beside those that were searched."""
    code, _, err = run(capsys, "train", "cca", "emoji", "--bits", 16, f"--variant={name}", *SMALL)
    assert (code, f"variant is {name}, as runs of a tuned file are called: give the file" in err) == (2, True)


def test_every_checkpoint_has_a_record_of_its_own(home, capsys):
    checkpoints = []
    for variant in ("one", "two"):
        more = (f"--variant={variant}", f"--trainer.default_root_dir={home / variant}")
        _, out, _ = run(capsys, "train", "cca", "emoji", "--bits", 16, *SMALL, *more)
        checkpoints.append(Path(out.splitlines()[-1]).parent / "checkpoints" / "best.ckpt")
    kept = {path: path.read_bytes() for name in ("one", "two") for path in (home / name).rglob("*") if path.is_file()}
    records = [run(capsys, "test", "--ckpt_path", checkpoint)[1].splitlines()[-1] for checkpoint in checkpoints]
    assert len({*records}) == 2
    assert all(Path(path).is_file() for path in records)
    again = {path: path.read_bytes() for name in ("one", "two") for path in (home / name).rglob("*") if path.is_file()}
    assert kept == again, "a test wrote into a run's folder"
    before = Path(records[0]).read_text()
    other = run(capsys, "test", "--ckpt_path", checkpoints[0], "--data.database=train")[1].splitlines()[-1]
    assert other != records[0]
    assert Path(records[0]).read_text() == before, "another protocol took the record's place"
    assert run(capsys, "test", "--ckpt_path", checkpoints[0])[1].splitlines()[-1] == records[0]


def test_a_checkpoint_tested_by_other_files_of_ones_own_says_so(home, capsys, monkeypatch):
    """Such as the weights of a frozen encoder: they are no part of the checkpoint."""
    monkeypatch.setattr("xmodal.cli.own_files", lambda *_: {"data.init_args.image_encoder.weights": "one"})
    _, out, _ = run(capsys, "train", "cca", "emoji", "--bits", 16, *SMALL)
    checkpoint = Path(out.splitlines()[-1]).parent / "checkpoints" / "best.ckpt"
    assert "trained by other" not in run(capsys, "test", "--ckpt_path", checkpoint)[2]
    monkeypatch.setattr("xmodal.cli.own_files", lambda *_: {"data.init_args.image_encoder.weights": "two"})
    said = "other code or inputs so far (own_code.data.init_args.image_encoder.weights one, not two)"
    assert said in run(capsys, "test", "--ckpt_path", checkpoint)[2]


def test_an_interrupted_run_goes_on_with_other_devices_and_says_which_code_began_it(home, capsys, monkeypatch):
    _, out, _ = run(capsys, "train", "cca", "emoji", "--bits", 16, *SMALL)
    folder, first = Path(out.splitlines()[-1]).parent, record_of(out)
    assert first["earlier"] == []
    newer = {**provenance()["versions"], "torch": "99"}
    other = {**provenance(), "commit": "a later one", "versions": newer}
    monkeypatch.setattr("xmodal.callbacks.provenance", lambda: other)
    (folder / "result.json").unlink()  # as if interrupted
    config = folder / "config.yaml"
    there = yaml.safe_load(config.read_text())
    there["trainer"] |= {"devices": 8, "num_nodes": 2}
    config.write_text(yaml.safe_dump(there))
    _, out, err = run(capsys, "train", "cca", "emoji", "--bits", 16, *SMALL, "--save_codes=true")  # one more file
    assert "going on from" in err
    assert f"it was trained by other code or inputs so far (commit {first['commit']}, not a later one" in err
    assert f"versions.torch {first['versions']['torch']}, not 99" in err
    mixed = f"Not all by the same versions or inputs: torch {first['versions']['torch']} and 99."
    assert mixed_sources([{"earlier": record_of(out)["earlier"], "versions": newer}]) == mixed
    assert origin([Setup(({**first, "versions": newer}, first))])[2:] == (mixed,)
    assert mixed_sources([first, first]) == ""
    (earlier,) = record_of(out)["earlier"]
    assert {key: first[key] for key in earlier.keys() - {"steps"}}.items() <= earlier.items()


def test_a_run_begun_by_a_version_that_kept_no_code_says_so(home, capsys):
    _, out, _ = run(capsys, "train", "cca", "emoji", "--bits", 16, *SMALL)
    folder = Path(out.splitlines()[-1]).parent
    for file in (folder / "checkpoints").iterdir():
        kept = torch.load(file, weights_only=False)
        del kept["callbacks"]["Origin"]
        torch.save(kept, file)
    _, tested, _ = run(capsys, "test", "--ckpt_path", folder / "checkpoints" / "best.ckpt")
    assert record_of(tested)["earlier"] == [{"commit": None, "steps": 0}]
    (folder / "result.json").unlink()  # as if interrupted
    _, out, err = run(capsys, "train", "cca", "emoji", "--bits", 16, *SMALL)
    assert (record_of(out)["earlier"], "so far (commit null, not" in err) == ([{"commit": None, "steps": 0}], True)


def test_an_interrupted_run_does_not_go_on_with_other_data(home, capsys, monkeypatch):
    command = ("train", "cca", "emoji", "--dim", 16, *SMALL)
    _, out, _ = run(capsys, *command)
    record = Path(out.splitlines()[-1])
    check_data(finished := read_result(record))
    record.unlink()  # as if interrupted
    monkeypatch.setattr(Relevance, "hash", "of other labels")
    with pytest.raises(UserError, match=r"the data have changed since .*seed0 \(relevance_hash\): remove the folder"):
        check_data(finished)
    code, _, err = run(capsys, *command)
    assert code == 2
    assert "this run began with other data (relevance_hash" in err
    assert "restore them, or remove its folder to begin anew" in err
    assert not record.exists()


def test_finished_runs_of_other_data_are_not_rows_of_one_table(home, monkeypatch):
    """Their configuration is the same, and so is the number of their pairs."""
    said = dict.fromkeys(DATA, "the same")
    for other in DATA:
        grid = Grid({"16 dim": [*configuration("cca", "emoji"), "--model.dim=16"]}, "0,1", Pool(1, 1))
        records = iter([{**said, other: seed, "path": f"seed{seed}/result.json"} for seed in (0, 0, 0, 1)])
        monkeypatch.setattr(Run, "record", lambda _, found=records: next(found))
        with pytest.raises(UserError, match="seed0 and seed1 are of other data: remove the one on older data"):
            grid.setups()


def test_a_finished_run_of_other_code_of_ones_own_is_run_again(tmp_path, monkeypatch):
    record = {"config_hash": text_hash("same"), "own_code": {"mine.Mine": "as it was"}, "metrics": {"test/map": 0.5}}
    record["path"] = str(tmp_path / "result.json")
    np.savez(tmp_path / "evaluation.npz", ap_i2t=np.zeros(2))
    monkeypatch.setattr("xmodal.studies.grid.read_results", lambda folder: iter([record]))
    for now, same in ({"mine.Mine": "as it was"}, True), ({"mine.Mine": "edited"}, False), ({}, False):
        assert (Run((), tmp_path, "same", "", tuple(now.items())).record() is record) is same


def test_settings_that_differ_in_their_last_letter_differ():
    was, now = ({"data.root": "/" + "x" * 100 + end, "seed_everything": end} for end in "12")
    assert difference(was, now, {"seed_everything"}) == f"data.root {'x' * 59}1, not {'x' * 59}2"
    assert difference(was, was | {"seed_everything": "3"}, {"seed_everything"}) is None


ARRAYS = """
import numpy as np
from xmodal.data import CrossModalDataModule, Pairs, make_split

class Arrays(CrossModalDataModule):
    name = "arrays"

    def split(self):
        return make_split(np.arange(60), np.arange(60, 80), 20, seed=0, database="test")

    def pairs(self):
        label = np.eye(4, dtype=np.uint8)[np.arange(80) % 4]
        feature = np.load(self.root / "features.npy")
        return Pairs({"pooled": feature}, {"pooled": feature}, label, tuple("abcd"))
"""


@pytest.mark.parametrize("role", ["train", "val_query", "query"])
def test_other_features_under_the_same_labels_are_said_and_recorded(home, capsys, monkeypatch, role):
    """Also of one role alone, since the arrays of training and test often lie in files of their own."""
    (home / "arrays_here.py").write_text(ARRAYS)
    monkeypatch.syspath_prepend(home)
    words = ["untrained", "arrays_here.Arrays", "--bits", 16, f"--data.root={home}"]
    features = np.random.default_rng(0).standard_normal((80, 8), np.float32)
    np.save(home / "features.npy", features)
    _, out, _ = run(capsys, "train", *words)
    first = record_of(out)
    rows = getattr(make_split(np.arange(60), np.arange(60, 80), 20, seed=0, database="test"), role)
    features[rows] *= -1
    np.save(home / "features.npy", features)
    assert "the inputs are not those of" in run(capsys, "bits", *words, "--seeds=0")[2]
    Path(out.splitlines()[-1]).unlink()  # as if interrupted
    _, out, err = run(capsys, "train", *words)
    second = record_of(out)
    assert f"by other code or inputs so far (inputs_hash {first['inputs_hash']}, not {second['inputs_hash']})" in err
    assert second["earlier"][0]["inputs_hash"] == first["inputs_hash"] != second["inputs_hash"]
    assert "inputs of untrained-arrays-16 base" in run(capsys, "compare")[2]
