"""A study compares trials that differ in its space only."""

import json
from pathlib import Path

import pytest
import yaml

from tests.studies.test_sweep import opened, played, sweep, write  # noqa: F401 - a fixture
from xmodal.cli import Parsed
from xmodal.code import code_of, provenance
from xmodal.errors import UserError
from xmodal.experiment import configuration
from xmodal.studies import trial
from xmodal.studies.storage import BASE, WARM
from xmodal.studies.trial import run_whole


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch):
    monkeypatch.setattr("xmodal.studies.plots.draw_study", lambda *_: [])


def test_a_study_goes_on_with_the_configuration_that_it_was_begun_with_only(played, capsys):  # noqa: F811
    def refused(*options):
        assert sweep(*options) == 2
        return capsys.readouterr().err

    assert sweep("--trials=1") == 0
    begun = "the study dmsf-emoji-16 was begun with "
    assert f"{begun}trainer.max_epochs 30, not 3: restore it" in refused("--trials=2", "--epochs=3")
    assert f"{begun}seed_everything 0, not 1: restore it" in refused("--trials=1", "--seed=1")  # and none is left
    path = played.home / "experiments" / "dmsf" / "emoji.yaml"
    kept = path.read_text()
    path.write_text(kept.replace("text_hidden: 1024", "text_hidden: 512"))
    assert f"{begun}model.text_hidden 1024, not 512" in refused("--trials=2")
    path.write_text(kept)
    assert sweep("--trials=2", "--devices=2") == 0
    assert len(played.seen) == 2
    with opened(played.home) as study:  # as of an older version, whose constructor had one argument less
        study.set_user_attr(
            BASE, {key: text for key, text in study.user_attrs[BASE].items() if key != "model.fusion_keep"}
        )
    assert sweep("--trials=3") == 0


def test_a_search_that_is_refused_leaves_no_warm_start(played):  # noqa: F811
    """The next command, which had none, tried its point, and its tuned file named trials before it."""
    warm = played.home / "warm.yaml"
    content = yaml.safe_load((played.home / "experiments/dmsf/emoji.yaml").read_text())
    content["model"]["init_args"] |= {"fusion": "attention", "dropout": 0.25}
    warm.write_text(yaml.safe_dump(content, sort_keys=False))
    assert sweep("--trials=1") == 0
    assert sweep("--trials=2", "--epochs=3", f"--warm_start={warm}") == 2
    assert sweep("--trials=2") == 0
    assert played.seen[1].get("model.dropout") != "0.25"
    with opened(played.home) as study:
        assert WARM not in study.user_attrs


def test_a_warm_start_that_is_the_untuned_method_is_tried_once(played):  # noqa: F811
    file = played.home / "experiments/dmsf/emoji.yaml"
    assert sweep("--trials=2", f"--warm_start={file}") == 0
    with opened(played.home) as study:
        assert ["point" in each.user_attrs for each in study.trials] == [True, False]


def test_a_new_axis_keeps_the_value_by_which_trials_that_did_not_draw_it_were_trained(played, capsys):  # noqa: F811
    assert sweep("--trials=1") == 0
    space, base = played.home / "sweeps" / "dmsf.yaml", played.home / "experiments" / "dmsf" / "emoji.yaml"
    content = yaml.safe_load(space.read_text())
    content["space"]["model.text_hidden"] = {"choice": [512, 1024]}
    space.write_text(yaml.safe_dump(content, sort_keys=False))
    kept = base.read_text()
    base.write_text(kept.replace("text_hidden: 1024", "text_hidden: 512"))
    assert sweep("--trials=2") == 2
    assert "begun with model.text_hidden 1024, not 512: restore it" in capsys.readouterr().err
    base.write_text(kept)
    assert sweep("--trials=2") == 0


def test_which_code_ran_a_trial_is_known_and_other_code_of_ones_own_ends_the_study(played, capsys, monkeypatch):  # noqa: F811
    """A study that was done long ago writes its file once more: then it names the code of the trial."""
    tuned = played.home / "experiments" / "dmsf" / "tuned" / "emoji-16.yaml"
    monkeypatch.setattr("xmodal.cli.own_files", lambda *_: {"mine.Mine": "one"})
    assert sweep("--trials=1") == 0
    before = tuned.read_text()
    later = {"commit": "f" * 40, "dirty": False, "diff": None}
    monkeypatch.setattr("xmodal.records.record.provenance", lambda: later)
    assert sweep("--trials=1") == 0
    assert tuned.read_text() == before
    monkeypatch.setattr("xmodal.studies.supervise.provenance", lambda: later)
    assert sweep("--trials=2") == 0
    assert f"trials so far are by other code ({code_of(provenance())}, now ffffffffff)" in capsys.readouterr().err
    monkeypatch.setattr("xmodal.cli.own_files", lambda *_: {"mine.Mine": "two"})
    assert sweep("--trials=2") == 2
    assert "the study dmsf-emoji-16 was begun with mine.Mine one, not two: restore it" in capsys.readouterr().err


def test_trials_of_a_version_that_kept_no_code_are_not_said_to_be_of_this_one(played, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr("xmodal.studies.sweep.SOURCE", "unsaid")
    assert sweep("--trials=1") == 0
    assert "\n# Commit None.\n" in (played.home / "experiments" / "dmsf" / "tuned" / "emoji-16.yaml").read_text()
    assert sweep("--trials=2") == 0
    assert f"trials so far are by other code (None, now {code_of(provenance())})" in capsys.readouterr().err


def test_data_that_are_edited_meanwhile_end_the_search(played, capsys):  # noqa: F811
    """Trials by other labels competed, in silence; sizes of batches make no other data."""
    found, real = iter("aab"), trial.run_trial
    space = played.home / "sweeps" / "dmsf.yaml"
    content = yaml.safe_load(space.read_text())
    content["space"]["data.batch_size"] = {"int": [64, 256]}
    space.write_text(yaml.safe_dump(content, sort_keys=False))

    def run_trial(*given, **more):
        ended = real(*given, **more)
        file = Path(ended.path)
        file.write_text(json.dumps(json.loads(file.read_text()) | {"relevance_hash": next(found)}))
        return ended

    trial.run_trial = run_trial  # the fixture restores it
    assert sweep("--trials=3") == 2
    assert "the data of dmsf-emoji-16 were edited meanwhile: restore them, to go on" in capsys.readouterr().err
    with opened(played.home) as study:
        assert [each.state.name for each in study.trials] == ["COMPLETE", "COMPLETE", "FAIL"]


def test_data_that_are_edited_during_the_last_trial_are_not_evaluated(played, capsys, monkeypatch):  # noqa: F811
    tuned = played.home / "experiments" / "dmsf" / "tuned" / "emoji-16.yaml"
    tuned.unlink()
    monkeypatch.setattr("xmodal.studies.supervise.changed_data", lambda record: "relevance_hash")
    assert sweep("--trials=1") == 2
    assert "the study dmsf-emoji-16 was begun with other data (relevance_hash)" in capsys.readouterr().err
    assert not tuned.exists()


def test_code_of_ones_own_that_processes_would_import_anew_is_not_edited_meanwhile(played, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setattr("xmodal.code.IMPORTED", {Parsed: "as it was"})
    assert sweep("--trials=1") == 0
    assert sweep("--trials=2", "--devices=2") == 2
    assert "xmodal.cli was edited since the command began: restore it, to go on" in capsys.readouterr().err
    with pytest.raises(UserError, match="was edited"):
        run_whole([], 2)


def test_a_tuned_file_holds_the_epochs_and_names_the_seed_that_were_searched_with(played):  # noqa: F811
    assert sweep("--trials=1", "--epochs=3", "--seed=5") == 0
    tuned = played.home / "experiments" / "dmsf" / "tuned" / "emoji-16.yaml"
    assert yaml.safe_load(tuned.read_text())["trainer"]["max_epochs"] == 3
    assert "`xmodal sweep dmsf emoji --epochs 3 --seed 5`" in tuned.read_text()
    run = Parsed([*configuration("dmsf", "emoji", [tuned]), "--trainer.devices=2", "--seed_everything=3"])
    assert (run.variant, run.given.overrides) == ("tuned", {"trainer.max_epochs": "3"})


def test_a_tuned_file_of_more_trials_is_replaced_with_a_line(played, capsys):  # noqa: F811
    """By a look with one trial, in silence."""
    said = "emoji-16.yaml was searched in 24 trials, and is replaced by the best of 1\n"
    for told in (1, 0):
        assert sweep("--trials=1") == 0
        assert capsys.readouterr().err.count(said) == told


def test_values_of_a_further_file_are_told_as_those_of_a_key(home):
    further = home / "further.yaml"
    further.write_text("trainer: {max_epochs: 5}\nmodel: {init_args: {text_hidden: 1024}}\n")  # one as it was
    assert Parsed(configuration("dmsf", "emoji", [further])).given.overrides == {"trainer.max_epochs": "5"}


def test_what_a_tuned_file_does_not_hold_is_told_of_the_files_before_it(home):
    """What stood in the experiment file since the search, or in another tuned file, was taken for searched."""
    folder = home / "experiments" / "dmsf"
    (folder / "tuned" / "emoji-8.yaml").write_text("model: {init_args: {fusion_keep: 0.3, text_hidden: 512}}\n")
    with (folder / "emoji.yaml").open("a") as file:
        file.write("trainer: {max_epochs: 7}\n")
    both = [folder / "tuned" / f"emoji-{size}.yaml" for size in (8, 16)]
    assert Parsed(configuration("dmsf", "emoji", both)).given.overrides == {
        "model.fusion_keep": "0.3",
        "trainer.max_epochs": "7",
    }


@pytest.mark.parametrize("trials", [1, 2])
def test_an_experiment_file_that_is_edited_meanwhile_ends_the_search(played, capsys, trials):  # noqa: F811
    """Later trials would be of another method, and the tuned file of settings that nobody searched."""
    path, tuned = (played.home / "experiments" / "dmsf" / each for each in ("emoji.yaml", "tuned/emoji-16.yaml"))
    kept = path.read_text()
    tuned.unlink(missing_ok=True)

    def edited(_):
        path.write_text(kept.replace("text_hidden: 1024", "text_hidden: 512"))
        return 0.5

    played.value = edited
    assert sweep(f"--trials={trials}") == 2
    assert f"{path} was edited since the search of dmsf-emoji-16 began: restore it" in capsys.readouterr().err
    assert (len(played.seen), tuned.exists()) == (1, False)
    played.value = lambda _: 0.6
    path.write_text(kept)
    assert sweep(f"--trials={trials}") == 0
    assert len(played.seen) == trials
    assert yaml.safe_load(tuned.read_text())["model"]["init_args"]["text_hidden"] == 1024


@pytest.mark.parametrize(("key", "option"), [("trainer.max_epochs", "--epochs=2"), ("model.text_hidden", "")])
def test_an_option_and_an_axis_of_one_key_are_refused(played, capsys, key, option):  # noqa: F811
    """The trials would take the axis' values, and the evaluated run of the tuned file the option's."""
    space = played.home / "sweeps" / "dmsf.yaml"
    space.write_text(yaml.safe_dump({"trials": 1, "space": {key: {"choice": [16, 32]}}}))
    assert sweep(*filter(None, [option])) == (2 if option else 0)
    said = f"{key} is an axis of the sweep file already: leave its option or the axis out" in capsys.readouterr().err
    assert said == bool(option)


def test_a_study_does_not_go_on_with_other_data(played, capsys, monkeypatch):  # noqa: F811
    """Pictures that were replaced, labels that were corrected: the configuration is the same."""
    assert sweep("--trials=1") == 0
    monkeypatch.setattr("xmodal.studies.supervise.changed_data", lambda record: "relevance_hash")
    assert sweep("--trials=2") == 2
    said = (
        "the study dmsf-emoji-16 was begun with other data (relevance_hash): restore them, or begin anew with another"
    )
    assert said in capsys.readouterr().err


def test_the_tuned_file_of_an_installed_package_refuses_no_search(played, monkeypatch):  # noqa: F811
    """It is not replaced, and whoever has installed it cannot move it away."""
    file = played.home / "experiments" / "dmsf" / "tuned" / "emoji-16.yaml"
    packaged = played.home / "package" / file.relative_to(played.home)
    packaged.parent.mkdir(parents=True)
    file.rename(packaged)
    monkeypatch.setattr("xmodal.paths.PACKAGE", played.home / "package")
    base = played.home / "experiments" / "dmsf" / "emoji.yaml"
    content = yaml.safe_load(base.read_text())
    content["data"] = {"class_path": "Emoji", "init_args": {"relevance": "finest"}}
    base.write_text(yaml.safe_dump(content))
    was = packaged.read_bytes()
    assert sweep("--trials=1") == 0
    assert (packaged.read_bytes(), file.is_file()) == (was, True)


@pytest.mark.parametrize(
    ("key", "choices", "untuned"),
    [
        ("model.image_lr", ["1e-2", "1e-3"], "1e-3"),  # which YAML takes for text
        ("model.image_hidden", [[8], []], "[]"),  # a tuple in the configuration
        ("model.weights", [{"graph": 2.0}, {"graph": 0.1}], '{"graph": 0.1}'),
        ("data.drop_last", ["yes", "no"], "no"),
        ("model.fusion", ["none", "attention"], "attention"),
    ],
)
def test_the_untuned_method_is_found_among_choices_by_what_they_mean(played, capsys, key, choices, untuned):  # noqa: F811
    """It was said to lie outside the space, and never tried: a search could end below it."""
    write(played.home, {"trials": 1, "sampler": {"name": "random"}, "space": {key: {"choice": choices}}})
    assert sweep() == 0
    assert "outside the space" not in capsys.readouterr().err
    with opened(played.home) as study:
        assert study.trials[0].params == {key: untuned}


def test_a_mapping_that_a_trial_would_add_to_and_a_tuned_file_replace_is_no_choice(played, capsys):  # noqa: F811
    """The tuned file had a graph of .1, the default, where its trial had the 3 of the experiment file, in silence."""
    base = played.home / "experiments/dmsf/emoji.yaml"
    content = yaml.safe_load(base.read_text())
    content["model"]["init_args"]["weights"] = {"graph": 3.0}
    base.write_text(yaml.safe_dump(content))
    write(played.home, {"trials": 1, "space": {"model.weights": {"choice": [{"intra": 2.0}, {"intra": 1.0}]}}})
    assert sweep() == 2
    assert f"model.weights is an axis, and {base} has settings below it" in capsys.readouterr().err
    assert not played.seen


def test_a_setting_of_an_encoder_is_searched_by_whole_encoders(played, capsys):  # noqa: F811
    """A search of the setting ended in a tuned file that no run takes."""
    base, name = played.home / "experiments/dmsf/emoji.yaml", "xmodal.encoders.BagOfWords"
    content, was = yaml.safe_load(base.read_text()), base.read_text()
    content["data"]["init_args"] = {"text_encoder": {"class_path": name, "init_args": {"size": 9}}}
    base.write_text(yaml.safe_dump(content))
    (tuned := played.home / "experiments/dmsf/tuned/emoji-16.yaml").unlink()  # of other data
    write(played.home, {"trials": 1, "space": {"data.text_encoder.size": {"int": [8, 9]}}})
    assert sweep() == 2
    assert "data.text_encoder.size lies within a class: search the whole of it" in capsys.readouterr().err
    base.write_text(was)
    encoders = [None, {"class_path": name, "init_args": {"size": 8}}]
    write(played.home, {"space": {"data.text_encoder": {"choice": encoders}}, "sampler": {"name": "random", "seed": 1}})
    for trials in (6, 7):  # the tuned file is that of the same data, whichever encoder is best
        played.value = lambda keys: 0.7 if "BagOfWords" in keys["data.text_encoder"] else 0.5
        assert sweep(f"--trials={trials}") == 0
    assert yaml.safe_load(tuned.read_text())["data"]["init_args"]["text_encoder"] == encoders[1]
