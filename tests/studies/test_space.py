import optuna
import pytest
import yaml

from tests.conftest import CHECKOUT
from xmodal.errors import UserError
from xmodal.studies.plots import draw_study
from xmodal.studies.samplers import SOURCE, ReadsOnce, make_sampler
from xmodal.studies.space import experiment_with, read_search
from xmodal.studies.storage import open_study

GOOD = {
    "trials": 3,
    "space": {
        "model.lr": {"float": [0.1, 1.0], "log": True},
        "model.layers": {"int": [1, 3]},
        "model.fusion": {"choice": ["a", None]},
    },
}


def read(tmp_path, content):
    path = tmp_path / "method.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return read_search(path)


def test_values_lie_in_the_axes(tmp_path):
    search = read(tmp_path, GOOD)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        values = {key: axis.suggest(trial, key) for key, axis in search.space.items()}
        assert all(search.space[key].holds(value) for key, value in values.items())
    assert not search.space["model.lr"].holds(2.0)
    assert not search.space["model.layers"].holds(True)
    assert not search.space["model.fusion"].holds("b")


def test_numbers_without_a_point_are_numbers(tmp_path):
    """YAML takes 1e-4 for text."""
    axis = read(tmp_path, "space: {model.lr: {float: [1e-4, 1e-2], log: true}}").space["model.lr"]
    assert axis.values == (0.0001, 0.01)
    assert axis.holds(0.001)


def test_steps_without_a_point_are_numbers(tmp_path):
    axis = read(tmp_path, "space: {model.lr: {float: [1e-4, 3e-4], step: 1e-4}}").space["model.lr"]
    assert list(axis.grid()) == [0.0001, 0.0002, 0.0003]


@pytest.mark.parametrize("sampler", ["grid", "tpe", "gp"])
def test_lists_and_mappings_are_choices(tmp_path, home, sampler):
    """Optuna's grid and its figures ended in a traceback: unhashable type: 'list'."""
    space = {
        "model.hidden": {"choice": [[64], [64, 32], None]},
        "model.weights": {"choice": [{"a": None}, {"a": True}], "when": {"model.hidden": [[64], None]}},
    }
    search = read(tmp_path, {"trials": 6, "sampler": {"name": sampler}, "space": space})
    with open_study(None, "dmsf-emoji-16", ["maximize"], search, forks=False) as opened:
        search.sampler.whole, found = opened.study, []

        def objective(trial):
            found.append(search.suggest(trial))
            trial.set_user_attr(SOURCE, {})
            return trial.number / 10

        opened.study.optimize(objective, search.budget)
    assert search.budget == (5 if sampler == "grid" else 6)
    assert sampler != "grid" or len({*map(str, found)}) == 5
    assert all(("model.weights" in each) == (each["model.hidden"] != "[64, 32]") for each in found)
    assert len(draw_study(tmp_path, "dmsf-emoji-16")) > 0
    base = tmp_path / "base.yaml"
    base.write_text("model: {class_path: DMSF}")
    values = {"model.hidden": "[64, 32]", "model.weights": '{"a": null}'}
    assert experiment_with(base, values)["model"]["init_args"] == {"hidden": [64, 32], "weights": {"a": None}}


def test_an_axis_is_there_only_under_its_condition(tmp_path):
    space = {
        "model.fusion": {"choice": ["none", "attention"]},
        "model.heads": {"int": [2, 8], "step": 2, "when": {"model.fusion": "attention"}},
        "model.temperature": {"float": [0.1, 1.0], "when": {"model.heads": [4, 8]}},
    }
    search = read(tmp_path, {"space": space})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = [search.suggest(study.ask()) for _ in range(60)]
    for values in seen:
        assert ("model.heads" in values) == (values["model.fusion"] == "attention")
        assert ("model.temperature" in values) == (values.get("model.heads") in (4, 8))
    assert {len(values) for values in seen} == {1, 2, 3}
    default = {"model.fusion": "attention", "model.heads": 3, "model.temperature": 0.5}
    assert search.point(default) == {
        "model.fusion": "attention"
    }  # 3 is off the steps, and then there is no temperature
    assert search.point({"model.fusion": "none", "model.heads": 4}) == {"model.fusion": "none"}


def test_the_command_line_replaces_the_header(tmp_path):
    path = tmp_path / "method.yaml"
    path.write_text(yaml.safe_dump(GOOD | {"sampler": {"name": "tpe", "seed": 5, "n_startup_trials": 2}}))
    search = read_search(
        path, {"trials": None, "minutes": 3, "sampler": {"name": "random"}, "pruner": {"name": "median"}}
    )
    assert (search.trials, search.minutes) == (None, 3)
    assert isinstance(search.pruner, ReadsOnce)
    assert isinstance(search.pruner.pruner, optuna.pruners.MedianPruner)

    def draws(sampler):
        study = optuna.create_study(sampler=sampler)
        return [search.suggest(study.ask()) for _ in range(3)]

    assert draws(search.sampler) == draws(make_sampler({"name": "random", "seed": 5}))  # the file's seed stays
    other = read_search(path, {"sampler": {"seed": 6}})
    assert draws(other.sampler) == draws(make_sampler({"name": "tpe", "seed": 6, "n_startup_trials": 2}))


def test_arguments_of_the_file_stay_where_the_same_sampler_or_pruner_is_named(tmp_path, monkeypatch):
    for name in ("make_sampler", "make_pruner"):
        monkeypatch.setattr(f"xmodal.studies.space.{name}", lambda entry: entry)
    tpe, median = {"name": "tpe", "seed": 5, "n_startup_trials": 2}, {"name": "median", "n_warmup_steps": 3}
    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump(GOOD | {"sampler": tpe, "pruner": median}))
    for given, sampler, pruner in (
        ({"sampler": {"name": "tpe"}, "pruner": {"name": "median"}}, tpe, median),
        ({"sampler": {"name": "tpe", "seed": 6}}, tpe | {"seed": 6}, median),
        ({"sampler": {"seed": 6}}, tpe | {"seed": 6}, median),
        ({"sampler": {"name": "gp"}, "pruner": {"name": "none"}}, {"name": "gp", "seed": 5}, {"name": "none"}),
    ):
        search = read_search(path, given)
        assert (search.sampler, search.pruner) == (sampler, pruner), given


BAD = [
    ({"space": {}}, "no space"),
    ({"space": GOOD["space"], "trails": 3}, "trails"),
    ({"space": GOOD["space"], "trials": 0}, "trials is 0"),
    ({"space": {"model.lr": {"float": [1, 0.1]}}}, "model.lr"),
    ({"space": {"model.lr": {"float": [0, 1], "log": True}}}, "low > 0"),
    ({"space": {"model.lr": {"flot": [0, 1]}}}, "write {float"),
    ({"space": {"model.lr": {"float": [0, 1], "lag": True}}}, "write {float"),
    ({"space": {"model.lr": 3}}, "write {float"),
    ({"space": {"seed_everything": {"choice": [0, 1]}}}, "seed_everything is no setting that is searched"),
    ({"space": GOOD["space"], "sampler": {"name": "Best"}}, "tpe, gp, random, grid, cmaes"),
    ({"space": GOOD["space"], "sampler": {"name": "tpe", "sead": 1}}, "sead"),
    ({"space": GOOD["space"], "sampler": {"name": "tpe", "seed": -1}}, "seed is -1"),
    ({"space": GOOD["space"], "sampler": {"name": "grid"}}, "model.lr has no grid"),
    ({"space": GOOD["space"], "sampler": {"name": "gp"}, "pruner": {"name": "median"}}, "complete trials only"),
    ({"space": GOOD["space"], "minutes": 0}, "minutes is 0"),
    ({"space": {"a.b": {"choice": [1], "when": 3}}}, "when is 3"),
    ({"space": {"a.b": {"choice": [1], "when": {"c.d": [1]}}}}, "stands above a.b"),
    ({"space": {"c.d": {"choice": [1]}, "a.b": {"choice": [1], "when": {"c.d": [2]}}}}, "values of it"),
    ({"space": GOOD["space"], "pruner": {"name": "tpe"}}, "median, percentile"),
    ("a: [", "is no YAML"),
    ("[]", "holds"),
]


@pytest.mark.parametrize(("content", "message"), BAD)
def test_a_malformed_file_is_said(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read(tmp_path, content)


def test_a_missing_file_lists_those_there(tmp_path):
    (tmp_path / "dmsf.yaml").touch()
    with pytest.raises(UserError, match=r"there are spaces for: .*dmsf"):
        read_search(tmp_path / "dsmf.yaml")


def test_values_go_where_the_parser_finds_them(tmp_path):
    base = tmp_path / "base.yaml"
    base.write_text("model: {class_path: DMSF, init_args: {lr: 1.0}}\ndata: {class_path: Emoji}\n")
    values = {
        "model.weights.intra": 2.0,
        "model.lr": 0.5,
        "model.hidden": "[8, 4]",
        "data.batch_size": 32,
        "trainer.max_epochs": 7,
    }
    assert experiment_with(base, values) == {
        "model": {"class_path": "DMSF", "init_args": {"lr": 0.5, "weights": {"intra": 2.0}, "hidden": [8, 4]}},
        "data": {"class_path": "Emoji", "init_args": {"batch_size": 32}},
        "trainer": {"max_epochs": 7},
    }


@pytest.mark.parametrize("path", sorted((CHECKOUT / "sweeps").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_files_of_the_suite_are_read(path):
    search = read_search(path)
    assert search.trials >= 20
    assert (CHECKOUT / "experiments" / path.stem).is_dir()


def test_a_grid_ends_with_its_last_point(tmp_path):
    """Each time that the command was given again it trained one more trial, of a point that was done."""
    space = {
        "model.a": {"choice": ["none", "attention"]},
        "model.b": {"float": [0.1, 0.5], "step": 0.2, "when": {"model.a": "attention"}},
        "model.c": {"int": [1, 3], "step": 2, "when": {"model.b": [0.3]}},
    }
    for trials, sampler, budget in ((24, "grid", 5), (3, "grid", 3), (None, "grid", 5), (24, "tpe", 24)):
        search = read(tmp_path, {"trials": trials, "sampler": {"name": sampler}, "space": space})
        assert search.budget == budget
    many = {f"model.a{axis}": {"int": [1, 10**8]} for axis in range(3)}
    search = read(tmp_path, {"trials": None, "minutes": 1, "sampler": {"name": "grid"}, "space": many})
    assert search.budget is None  # and nobody counts to 10**24
    search = read(tmp_path, {"sampler": {"name": "grid"}, "space": space})
    study = optuna.create_study(sampler=search.sampler)
    study.optimize(lambda trial: float(len(search.suggest(trial))), search.budget)
    assert len(study.trials) == len({str(trial.params) for trial in study.trials}) == search.budget
