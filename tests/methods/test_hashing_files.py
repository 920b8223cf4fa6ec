"""Experiment, ablation and sweep files of the hashing methods: they parse, and an ablation is one difference."""

from functools import cache
from pathlib import Path

import pytest
import yaml

from xmodal.__main__ import main
from xmodal.cli import Parsed
from xmodal.run import configuration
from xmodal.tuning.space import read_search

CHECKOUT = Path(__file__).parents[2]
METHODS = ("dcmh", "dcmht", "dsph", "mith", "scahn", "text_guided_clip")
EXPERIMENTS = [path for method in METHODS for path in sorted((CHECKOUT / "experiments" / method).glob("*.yaml"))]
ABLATIONS = [path for method in METHODS for path in sorted((CHECKOUT / "experiments" / method / "ablations").glob("*"))]


def leaves(node, name=""):
    if isinstance(node, dict):
        return {leaf: value for key, part in node.items() for leaf, value in leaves(part, f"{name}.{key}").items()}
    return {name: node}


@cache
def resolved(method, *rest):
    return leaves(yaml.safe_load(Parsed([*configuration(method, "emoji"), *rest]).yaml)["model"])


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_experiments_parse_and_restate_no_default(home, path):
    stated = leaves(yaml.safe_load(path.read_text())["model"].get("init_args", {}))
    name = yaml.safe_load(path.read_text())["model"]["class_path"]
    defaults = leaves(yaml.safe_load(Parsed([*configuration(path.parent.name, path.stem)]).yaml)["model"]["init_args"])
    plain = home / "experiments" / path.parent.name / "plain.yaml"
    plain.write_text(yaml.safe_dump({"model": {"class_path": name}, "data": {"class_path": "Emoji"}}))
    bare = leaves(yaml.safe_load(Parsed([*configuration(path.parent.name, "plain")]).yaml)["model"]["init_args"])
    assert {key for key, value in defaults.items() if bare[key] != value} == set(stated)


@pytest.mark.parametrize("path", ABLATIONS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_an_ablation_is_one_difference(home, path):
    method = path.parents[1].name
    base, variant = resolved(method), resolved(method, f"--config={path}")
    changed = [key for key, value in variant.items() if base[key] != value]
    several = "leaves change, because" in path.read_text()
    assert len(changed) > 1 if several else len(changed) == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_sweep_names_keys_that_exist(home, method):
    search = read_search(CHECKOUT / "sweeps" / f"{method}.yaml")
    known = resolved(method)
    for key, parameter in search.space.items():
        assert f".init_args.{key.removeprefix('model.')}" in known
        for value in parameter.values if parameter.kind == "choice" else ():
            resolved(method, f"--{key}={value}")


def test_a_constructor_says_what_is_wrong_in_one_line(home, capsys):
    assert main(["fit", "dsph", "emoji", "--bits", "20"]) == 2
    assert "give model.zeta" in capsys.readouterr().err.splitlines()[-1]
