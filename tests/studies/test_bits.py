"""The axis of code lengths, and the figures of a study, through the command line."""

import json
import sys
from argparse import Namespace
from contextlib import nullcontext

import optuna
import pytest
import yaml
from PIL import Image

from tests.records.records import write_run
from tests.studies.conftest import SMALL, keep
from xmodal.__main__ import main
from xmodal.commands import bits, table
from xmodal.errors import UserError
from xmodal.experiment import configuration
from xmodal.records.setups import Setup
from xmodal.studies.grid import full_method


def drawn(path):
    """A picture of some size with more than a background."""
    with Image.open(path) as picture:
        colours = picture.convert("RGB").getcolors(1 << 20)
        return min(picture.size) > 200 and len(colours) > 20


def test_a_length_without_a_tuned_file_borrows_the_nearest_and_says_so(home, capsys, started):
    command = ["bits", "dmsf", "emoji", "--bits=24,16", "--seeds=0", *SMALL]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert started == ["tuned-at-32-seed0", "tuned-seed0"]
    found = json.loads((home / "runs/dmsf/emoji/24/tuned-at-32-seed0/result.json").read_text())
    assert (found["size"], found["variant"], found["job_type"]) == (24, "tuned-at-32", "bits")
    assert found["group"] == "dmsf-emoji-24"
    assert "24 bits, seed 0: mAP" in err
    rows = [line.split() for line in out.splitlines()[4:6]]
    assert [(row[0], row[-1]) for row in rows] == [
        ("24", "dmsf/tuned/emoji-32.yaml"),
        ("16", "dmsf/tuned/emoji-16.yaml"),
    ]
    assert drawn(home / "runs/dmsf/emoji/bits.png")
    assert drawn(home / "runs/dmsf/emoji/bits-precision_recall.png")
    assert f"{found['metrics']['test/map_i2t']!r}," in (home / "runs/dmsf/emoji/bits.csv").read_text()
    keep(home, "dmsf", "no_fusion")  # which changes nothing at 16 bits
    assert main(["ablate", "dmsf", "emoji", "--bits=16", "--seeds=0", *SMALL]) == 0
    assert len(started) == 2  # the full method of an ablation is the same run


@pytest.mark.parametrize(
    ("size", "borrowed"), [(8, 16), (16, 16), (22, 16), (24, 32), (90, 64), (91, 128), (4096, 128)]
)
def test_the_nearest_tuned_file_is_taken(home, size, borrowed):
    file, arguments = bits.nearest_tuned("dmsf", "emoji", size, home / "experiments/dmsf/emoji.yaml")
    assert file.name == f"emoji-{borrowed}.yaml"
    variant = [argument for argument in arguments if argument.startswith("--variant=")][-1]
    assert variant == ("--variant=tuned" if size == borrowed else f"--variant=tuned-at-{borrowed}")


@pytest.mark.parametrize("edited", ["editing.py", "experiments/default.yaml"])
def test_runs_of_files_that_are_edited_meanwhile_name_the_code_that_ran(home, capsys, started, monkeypatch, edited):
    """Those begun after the edit had the hash of code that nobody had imported; what is read anew is another run."""
    monkeypatch.syspath_prepend(str(home))
    monkeypatch.delitem(sys.modules, "editing", raising=False)
    text = f"""
from xmodal.methods import CCA

class Edited(CCA):
    name = "edited"

    def on_test_end(self):
        with open({str(home / edited)!r}, "a") as file:
            file.write("job_type: edited\\n")
"""
    (home / "editing.py").write_text(text)
    done = main(["bits", str(home / "editing.py"), "emoji", "--dim=2,3", "--seeds=0", *SMALL])
    err = capsys.readouterr().err
    assert "mAP" in err, err
    records = [json.loads((home / f"runs/edited/emoji/dim{size}/seed0/result.json").read_text()) for size in (2, 3)]
    assert records[0]["own_code"] == records[1]["own_code"]
    if edited == "editing.py":
        assert (done, err.count("mAP")) == (0, 2)
    else:
        assert done == 2
        assert "3 dim, seed 0 failed: its files were edited meanwhile" in err


@pytest.mark.parametrize(
    "command", [["bits", "--bits=16"], ["bits", "--bits=24"], ["ablate", "--bits=16"], ["sweep", "--bits=16"]]
)
def test_a_tuned_file_that_was_searched_on_other_data_is_refused(home, capsys, started, command):
    base = home / "experiments/dmsf/emoji.yaml"
    content = yaml.safe_load(base.read_text())
    content["data"] = {"class_path": "Emoji", "init_args": {"relevance": "finest", "batch_size": 64}}
    base.write_text(yaml.safe_dump(content))
    tuned = home / "experiments/dmsf/tuned/emoji-16.yaml"
    before, more = tuned.read_bytes(), ["--trials=1"] if command[0] == "sweep" else ["--seeds=0", *SMALL]
    assert main([command[0], "dmsf", "emoji", *command[1:], *more]) == 2
    assert "yaml was searched with data.relevance absent, not finest: move it away" in capsys.readouterr().err
    assert not started
    assert tuned.read_bytes() == before


def test_a_tuned_file_whose_search_has_tried_settings_of_the_data_is_run(home):
    """It was refused with the advice to search again, which wrote the same."""
    tuned, space = home / "experiments/dmsf/tuned/emoji-16.yaml", home / "sweeps/dmsf.yaml"
    content, searched = yaml.safe_load(tuned.read_text()), yaml.safe_load(space.read_text())
    content["data"]["init_args"] = {"keywords": 4}
    tuned.write_text(yaml.safe_dump(content))
    with pytest.raises(UserError, match=r"was searched with data.keywords 4, not absent"):
        full_method("dmsf", "emoji", 16, home / "experiments/dmsf/emoji.yaml")
    searched["space"]["data.keywords"] = {"choice": [3, 4]}
    space.write_text(yaml.safe_dump(searched))
    assert full_method("dmsf", "emoji", 16, home / "experiments/dmsf/emoji.yaml")[0] == tuned
    assert bits.nearest_tuned("dmsf", "emoji", 22, home / "experiments/dmsf/emoji.yaml")[0] == tuned


def test_a_tuned_file_that_is_named_beside_other_data_is_refused(home):
    base, tuned = home / "experiments/dmsf/emoji.yaml", home / "experiments/dmsf/tuned/emoji-16.yaml"
    for relevance, batch, message in (
        ("label", 64, None),
        ("finest", 128, "data.init_args.relevance label, dmsf emoji"),
    ):
        for file, given in ((base, relevance), (tuned, "label")):
            content = yaml.safe_load(file.read_text())
            size = batch if file == base else 128
            content["data"] = {"class_path": "Emoji", "init_args": {"relevance": given, "batch_size": size}}
            file.write_text(yaml.safe_dump(content))
        with pytest.raises(UserError, match=message) if message else nullcontext():
            configuration("dmsf", "emoji", [tuned])


def test_a_method_that_was_never_tuned_runs_its_experiment_file(home):
    file, arguments = bits.nearest_tuned("cca", "emoji", 64, home / "experiments/cca/emoji.yaml")
    assert file == home / "experiments/cca/emoji.yaml"
    assert not [argument for argument in arguments if "variant" in argument]


def test_the_table_of_sizes(tmp_path):
    setups = {}
    for size, variant in ((16, "tuned-at-32"), (32, "tuned")):
        folders = [write_run(tmp_path, size=size, seed=seed, variant=variant) for seed in (0, 1)]
        setups[f"{size} bits"] = Setup(tuple(json.loads((each / "result.json").read_text()) for each in folders))
        for record in setups[f"{size} bits"].records:
            record["metrics"] = {"test/map_i2t": size / 64, "test/map_t2i": 0.5, "test/map": 0.25 + record["seed"] / 4}
            record["metrics"]["val/map"] = 1.0
    assert bits.table(setups, dict.fromkeys(setups, "a.yaml")).text() == (
        "dmsf on emoji: mAP@all on the query set\n"
        "\n"
        "bits  i2t               t2i               mean              val               weights\n"
        "16    0.2500 +- 0.0000  0.5000 +- 0.0000  0.3750 +- 0.1768  1.0000 +- 0.0000  a.yaml\n"
        "32    0.5000 +- 0.0000  0.5000 +- 0.0000  0.3750 +- 0.1768  1.0000 +- 0.0000  a.yaml\n"
        "\n"
        "Mean +- sample deviation over seeds 0, 1; 60 queries.\n"
        "Commit cccccccccc (+: with uncommitted changes).\n"
    )


BAD = [
    (["bits", "dmsf", "imagenet"], "DATA is 'imagenet'"),
    *(
        ([command, "dmsf", "tuned/emoji-64", "--bits=64"], "DATA is 'tuned/emoji-64', a file that a sweep wrote")
        for command in ("sweep", "bits", "ablate")
    ),
    (["bits", "dmsf", "emoji", "--bits=16,x"], "BITS is 'x'"),
    (["bits", "dmsf", "emoji", "--bits=16,16"], "BITS is '16,16': name every number once"),
    (["sweep", "dmsf", "emoji", "--bits=16,16"], "BITS is '16,16': name every number once"),
    (["bits", "dmsf", "emoji", "--dim=16"], "dmsf takes BITS"),
    (["bits", "dscmr", "emoji", "--bits=16"], "dscmr takes DIM"),
    (["bits", "dmsf", "emoji", "--bits=16", "--dim=16"], "not both"),
    (["plots", "dmsf", "emoji", "--bits=16"], "nothing to draw"),
    (
        ["plots", "dmsf", "emoji", "--bits=16", "--storage=sqlite:////nowhere/at/all.db"],
        "cannot use the study database",
    ),
    (["plots", "dmsf", "emoji", "--bits=16", "--storage=nonsense"], "cannot use the study database"),
]


@pytest.mark.parametrize(("argv", "message"), BAD)
def test_what_cannot_be_run_is_said_in_one_line(home, capsys, argv, message):
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (home / "runs").exists()


def test_a_study_and_the_runs_at_its_size_are_drawn(home, capsys):
    (home / "runs").mkdir()
    study = optuna.create_study(
        storage=f"sqlite:///{home / 'runs' / 'sweeps.db'}", study_name="dmsf-emoji-16", direction="maximize"
    )
    study.optimize(
        lambda trial: (
            trial.suggest_float("lr", 1e-4, 1, log=True) - (trial.suggest_categorical("net", ["a", "b"]) == "a")
        ),
        n_trials=6,
    )
    for variant in ("base", "tuned", "no_graph"):
        write_run(home / "runs", size=16, variant=variant)
    assert main(["plots", "dmsf", "emoji", "--bits=16"]) == 0
    written = capsys.readouterr().out.splitlines()
    folder = home / "runs/dmsf/emoji/16"
    assert written == [
        str(folder / f"{stem}.png") for stem in ("importance", "parallel_coordinates", "precision_recall")
    ]
    assert all(drawn(path) for path in written)


def test_every_setup_at_a_size_has_its_curve(home, monkeypatch):
    """Of two plain ones, such as of other epochs, the better was left out in silence."""
    found = []
    monkeypatch.setattr("xmodal.commands.plots.draw_curves", lambda path, setups, title: found.extend(setups))
    for seed, (variant, setup) in enumerate((("base", "one"), ("base", "two"), ("tuned", "three"))):
        write_run(home / "runs", size=16, variant=variant, seed=seed, setup_hash=setup)
    assert main(["plots", "dmsf", "emoji", "--bits=16"]) == 0
    assert sorted(name for name, _ in found) == ["base (one)", "base (two)", "tuned"]
    assert len({setup for _, setup in found}) == 3


def test_a_table_runs_a_closed_form_as_its_file_says(home, monkeypatch):
    """Somebody has searched it, as the tutorial has it: codes, and no embeddings, in as many trials as they like."""
    tuned = home / "experiments/cca/tuned/emoji-64.yaml"
    tuned.parent.mkdir()
    tuned.write_text(
        "model: {class_path: CCA, init_args: {regularization: 0.5, bits: 64}}\ndata: {class_path: Emoji}\n"
    )
    filled = []
    monkeypatch.setattr(table, "Grid", lambda rows, *_: filled.append(rows) or Namespace(setups=dict))
    options = Namespace(seeds="0", seed=None, epochs=None, devices=None)
    for kind in ("bits", "dim"):
        table.Cell("cca", "emoji", kind, (32, 64)).fill(options, None, {})
    assert [[each.rpartition("/")[2] for each in row] for rows in filled for row in rows.values()] == [
        ["default.yaml", "emoji.yaml", f"--model.{kind}={size}"] for kind in ("bits", "dim") for size in (32, 64)
    ]
