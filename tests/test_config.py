"""Every file of experiments/ and every key of sweeps/ parses; a variant is one difference."""

import json
from functools import cache

import pytest
import yaml

from tests.conftest import CHECKOUT
from xmodal import methods, paths
from xmodal.__main__ import main
from xmodal.cli import Parsed
from xmodal.errors import UserError
from xmodal.experiment import configuration, size_names
from xmodal.files import text_hash
from xmodal.records.record import TUNED as HEADER
from xmodal.records.record import is_edited, searched, tuned_text
from xmodal.studies.space import as_text, read_search

FOLDERS = sorted(path for path in (CHECKOUT / "experiments").iterdir() if path.is_dir())
SPACES = sorted((CHECKOUT / "sweeps").glob("*.yaml"))
EXPERIMENTS = [path for folder in FOLDERS for path in sorted(folder.glob("*.yaml"))]
TUNED = sorted((CHECKOUT / "experiments").glob("*/tuned/*.yaml"))
VARIANTS = sorted((CHECKOUT / "experiments").glob("*/ablations/*.yaml"))


def name_of(path):
    return str(path.relative_to(CHECKOUT / "experiments").with_suffix(""))


def size(method):
    return f"--model.{size_names(method)[0]}=16"


def leaves(content, prefix=""):
    if not isinstance(content, dict):
        return {prefix: content}
    return {key: leaf for name, part in content.items() for key, leaf in leaves(part, f"{prefix}.{name}").items()}


@pytest.fixture
def checkout(monkeypatch):
    """The checkout's own files, which are read only: they need not be copied for every one of them."""
    monkeypatch.setenv("XMODAL_HOME", str(CHECKOUT))


@cache  # a method's experiment for emoji is the base of all its variants
def resolved(*arguments):
    return leaves({key: part for key, part in Parsed(arguments).config.as_dict().items() if key != "config"})


def test_every_registered_method_has_a_folder_and_an_experiment_for_emoji():
    assert set(methods.registry()) == {folder.name for folder in FOLDERS}
    assert set(methods.registry()) == {path.parent.name for path in EXPERIMENTS if path.stem == "emoji"}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=name_of)
def test_an_experiment_parses_and_restates_no_default(checkout, tmp_path, path):
    method = path.parent.name
    found = resolved(*configuration(method, path.stem), size(method))
    assert "max_steps" not in path.read_text()
    content = yaml.safe_load(path.read_text())
    plain = {key: {"class_path": content[key]["class_path"]} for key in ("model", "data")}
    bare = tmp_path / "bare.yaml"
    bare.write_text(yaml.safe_dump(plain))
    default = resolved(*configuration(None, None, [bare]), size(method))
    for key, value in leaves(content).items():
        if not key.endswith("class_path"):
            assert default.get(key) != value, f"{key} = {value} is the default"
            assert key in found


@pytest.mark.parametrize("path", TUNED, ids=name_of)
def test_a_tuned_file_parses_and_says_where_it_comes_from(checkout, path):
    Parsed(configuration(None, None, [path]))
    assert HEADER.match(path.read_text())["content"]
    assert not is_edited(path)


def test_a_tuned_file_at_another_size_is_named_after_its_own(home):
    given = configuration("dmsf", "tuned/emoji-64")
    assert [Parsed([*given, *more]).folder.name for more in ((), ["--model.bits=32"])] == [
        "tuned-seed0",
        "tuned-at-64-seed0",
    ]
    assert Parsed([*given, "--model.bits=32"]).config_dump["variant"] == "tuned-at-64"


def test_a_run_is_called_tuned_only_with_the_values_that_the_sweep_wrote(home):
    def variant(*more):
        return Parsed([*configuration("dmsf", "tuned/emoji-64"), *more]).variant

    file = home / "experiments/dmsf/tuned/emoji-64.yaml"
    body = "model:\n  class_path: DMSF\n  init_args: {bits: 64, image_lr: 0.0015, weights: {graph: 2}}\n"
    body += "data: {class_path: Emoji}\n"
    text = tuned_text(body, "xmodal sweep dmsf emoji", "dmsf-emoji-64", 3, 0.5, {"complete": 1})
    file.write_text(text)
    assert variant("--model.image_lr=0.5") == variant("--model.weights.graph=7", "--model.bits=32") == "tuned-edited"
    assert variant("--model.image_lr=1.5e-3") == variant("--trainer.max_epochs=2") == "tuned"
    file.write_text(text.replace("image_lr: 0.0015", "image_lr: 0.0025"))
    assert variant() == variant("--model.bits=32") == "tuned-edited"
    file.write_text(text)
    assert variant() == "tuned"


def test_a_run_of_tuned_values_is_called_so_whatever_file_has_them(home):
    """Replayed at another size it stood as tuned there, and by `--variant=base` beside the untuned ones."""
    file = home / "config.yaml"
    tuned = configuration("dmsf", "tuned/emoji-64")
    for given, expected in (
        ([], {"": "tuned", "--model.bits=32": "tuned-at-64", "--model.image_lr=0.5": "tuned-edited"}),
        (["--model.bits=32"], dict.fromkeys(("", "--model.bits=16"), "tuned-at-64")),
        (["--model.image_lr=0.5"], dict.fromkeys(("", "--model.bits=16"), "tuned-edited")),
    ):
        file.write_text(Parsed([*tuned, *given]).yaml)
        replay = configuration(None, None, [file])
        assert {more: Parsed([*replay, *filter(None, [more])]).variant for more in expected} == expected
        assert Parsed([*replay, "--variant=mine"]).variant == "mine"
    assert Parsed([*tuned, "--variant=base"]).variant == "tuned"


def test_the_header_of_a_tuned_file_is_made_and_read_in_one_form():
    counts = {"complete": 20, "pruned": 4}
    found = HEADER.match(tuned_text("model: {}\n", "xmodal sweep dmsf emoji", "dmsf-emoji-64", 3, 0.5, counts))
    assert (found["trials"], found["content"]) == ("20 complete, 4 pruned", text_hash("model: {}\n"))
    source = {
        "commit": None,
        "dirty": None,
        "own_code": {"mine.Mine": "0123456789abcdef", "b.hook": "fedcba9876543210"},
    }
    given = ("model: {}\n", "xmodal sweep mine emoji", "mine-emoji-64", 3, 0.5, counts, source)
    found = HEADER.match(tuned_text(*given))
    assert (found["content"], found["own"].count("\n")) == (text_hash("model: {}\n"), 2)
    assert found["own"].startswith("# Of one's own: mine.Mine (0123456789abcdef).\n")
    highest = HEADER.match(tuned_text("model: {}\n", "xmodal sweep dmsf easy", "dmsf-easy-64", 3, 1.0, counts))
    assert (highest["value"], highest["trials"]) == ("1.000000", "20 complete, 4 pruned")


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_keys_of_a_space_are_arguments(checkout, path):
    for end in (0, -1):
        given = [f"--{key}={as_text(axis.values[end])}" for key, axis in read_search(path).space.items()]
        Parsed([*configuration(path.stem, "emoji"), size(path.stem), *given])


@pytest.mark.parametrize("path", VARIANTS, ids=name_of)
def test_a_variant_changes_one_leaf_or_says_why(checkout, path):
    method = path.parents[1].name
    base = resolved(*configuration(method, "emoji"), size(method))
    changed = resolved(*configuration(method, "emoji", [path]), size(method))
    different = {key for key in base.keys() | changed.keys() if base.get(key) != changed.get(key)}
    assert different, "the variant changes nothing"
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    assert len(different) == 1 or "leaves" in first.lower(), f"{sorted(different)}: the header does not say why"


def test_a_tuned_file_copied_to_the_name_of_another_size_is_named_after_its_own(home):
    folder = home / "experiments/dmsf/tuned"
    (folder / "emoji-32.yaml").write_text((folder / "emoji-64.yaml").read_text())
    copied = configuration(None, None, [folder / "emoji-32.yaml"])
    assert Parsed([*copied, "--model.bits=32"]).variant == "tuned-at-64"
    assert Parsed(copied).variant == "tuned"


@pytest.mark.parametrize(
    ("data", "file", "message"),
    [
        ("wikipedia", "tuned/emoji-64.yaml", "data.class_path Emoji, dmsf wikipedia has Wikipedia"),
        ("emoji", "../dcmh/tuned/emoji-64.yaml", "model.class_path DCMH, dmsf emoji has DMSF"),
        ("emoji", "own.yaml", "data.init_args.name mine, dmsf emoji has none"),
    ],
)
def test_a_file_of_another_method_or_dataset_does_not_take_the_place_of_those_named(home, data, file, message):
    (home / "experiments/dmsf/own.yaml").write_text("data: {init_args: {name: mine}}\n")
    with pytest.raises(UserError, match=message):
        configuration("dmsf", data, [paths.found(home / "experiments/dmsf") / file])


@pytest.mark.parametrize("change", ["another", "gone"])
def test_a_run_says_of_its_tuned_file_what_it_has_read(home, monkeypatch, change):
    """The search may have gone on meanwhile, or the file have been moved: the run ended in a traceback."""
    file = home / "experiments/dmsf/tuned/emoji-16.yaml"
    trials, text = searched(file), file.read_text()

    def edit(*_):
        file.write_text(text.replace(" complete", "99 complete"))
        if change == "gone":
            file.unlink()

    monkeypatch.setattr("xmodal.methods.RetrievalMethod.on_test_start", edit, raising=False)
    logged = []
    monkeypatch.setattr("xmodal.records.loggers.log_file", lambda loggers, path, *_: logged.append(path))
    assert main(["train", "dmsf", "tuned/emoji-16", "--epochs=1", "--data.subset=64", "--gallery=false"]) == 0
    record = json.loads((home / "runs/dmsf/emoji/16/tuned-seed0/result.json").read_text())
    assert record["trials"] == trials
    assert not logged
