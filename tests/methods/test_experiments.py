"""Every experiment file, variant and search space parses; a variant holds one difference unless its header says why."""

from functools import cache

import pytest
import yaml

from tests.conftest import CHECKOUT
from tests.methods.toy import REGISTRY
from xmodal.cli import Parsed
from xmodal.run import configuration
from xmodal.tuning.space import read_search

EXPERIMENTS = CHECKOUT / "experiments"
FILES = sorted(path for path in EXPERIMENTS.glob("*/*.yaml"))
VARIANTS = sorted(EXPERIMENTS.glob("*/ablations/*.yaml"))
SPACES = sorted((CHECKOUT / "sweeps").glob("*.yaml"))


def name(path):
    return "-".join([*path.relative_to(CHECKOUT).parts[1:-1], path.stem])


def parsed(method, dataset, *files, arguments=()):
    sizes = ["--model.dim=16"] if method == "cca" else []
    return Parsed([*configuration(method, dataset, files), *sizes, *arguments])


def leaves(value, path=()):
    if not isinstance(value, dict):
        return {path: value}
    return {key: leaf for each, part in value.items() for key, leaf in leaves(part, (*path, each)).items()}


@cache
def resolved(method, *files):
    """Every leaf of the method and of the data."""
    content = yaml.safe_load(parsed(method, "emoji", *files).yaml)
    return leaves(content["model"]) | leaves(content["data"])


@pytest.mark.parametrize("path", FILES, ids=name)
def test_an_experiment_file_parses(path, home):
    cli = parsed(path.parent.name, path.stem)
    assert (cli.method, cli.dataset) == (path.parent.name, path.stem)


@pytest.mark.parametrize("path", VARIANTS, ids=name)
def test_a_variant_is_one_difference(path, home):
    method = path.parent.parent.name
    base, variant = resolved(method), resolved(method, path)
    changed = {key for key in base.keys() | variant.keys() if base.get(key) != variant.get(key)}
    assert changed == leaves_of(path)
    if len(changed) > 1:
        assert "two leaves" in path.read_text().splitlines()[0]


def leaves_of(path):
    content = yaml.safe_load(path.read_text())
    assert content.keys() <= {"model", "data"}
    return {key for part in content.values() for key in leaves(part)}


@pytest.mark.parametrize("method", REGISTRY)
def test_a_method_has_its_files(method):
    for dataset in ("emoji", "wikipedia"):
        if method != "hierarchical_adversarial" or dataset == "emoji":  # Wikipedia has no hierarchy
            assert (EXPERIMENTS / method / f"{dataset}.yaml").is_file()
    assert method == "cca" or (CHECKOUT / "sweeps" / f"{method}.yaml").is_file()


@pytest.mark.parametrize("path", SPACES, ids=lambda path: path.stem)
def test_the_keys_of_a_space_are_arguments(path, home):
    """Each key takes its first value."""
    space = read_search(path).space
    given = [f"--{key}={parameter.values[0]}" for key, parameter in space.items()]
    parsed(path.stem, "emoji", arguments=given)
