"""pyproject.toml, environment.yml, constraints.txt and the Makefile say the same."""

import re
import subprocess
import tomllib

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.conftest import CHECKOUT

PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]


def requirements():
    """What `make setup` installs: the extra `dev` and every extra of ours that it names."""
    extras = PROJECT["optional-dependencies"]
    listed, dev = list(PROJECT["dependencies"]), ["dev"]
    for name in dev:  # grows
        lines = [Requirement(line) for line in extras[name]]
        dev += [extra for line in lines if line.name == "xmodal" for extra in line.extras if extra not in dev]
        listed += extras[name]
    assert {"demo", "sweeps", "search", "web", "export", "bench"} <= set(dev)
    return [each for line in listed if (each := Requirement(line)).name != "xmodal"]


def pins():
    lines = [
        line for line in (CHECKOUT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")
    ]
    return {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}


def test_conda_gives_the_same_stack():
    content = yaml.safe_load((CHECKOUT / "environment.yml").read_text())
    conda = [entry for entry in content["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in content["dependencies"] if isinstance(entry, dict)]
    assert content["channels"] == ["conda-forge"]
    assert sorted(conda) == ["pip", f"python{PROJECT['requires-python']}"]
    makefile = (CHECKOUT / "Makefile").read_text()
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    assert "-c constraints.txt -e '.[dev]'" in makefile
    assert "xmodal[demo]" in PROJECT["optional-dependencies"]["dev"]


def test_the_tested_set_fits_the_bounds():
    tested = pins()
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        assert name in tested, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(tested[name]), f"{name} {tested[name]} is outside {requirement.specifier}"


def test_malicious_releases_are_excluded():
    (lightning,) = [requirement for requirement in requirements() if requirement.name == "lightning"]
    assert not lightning.specifier.contains("2.6.2")
    assert not lightning.specifier.contains("2.6.3")
    assert lightning.specifier.contains("2.6.4")


def test_every_bound_has_its_reason():
    text = (CHECKOUT / "pyproject.toml").read_text()
    block = text[text.index("dependencies = [") : text.index("[project.scripts]")]
    for line in re.findall(r'^  "[^"]+",.*$', block, re.M):
        assert "#" in line or "xmodal[" in line, f"no reason beside {line.strip()}"


def test_help_is_the_default_target_and_lists_every_target():
    makefile = (CHECKOUT / "Makefile").read_text()
    shown = subprocess.run(["make", "-s", "-C", str(CHECKOUT)], capture_output=True, text=True, check=True).stdout
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.M).group(1).split()
    for target in targets:
        assert f"make {target}" in shown, target


def test_make_passes_what_it_is_given():
    command = ["make", "-n", "-s", "-o", "setup", "sweep", "METHOD=dmsf", "BITS=16,32", "TRIALS=3", "DATA=wikipedia"]
    shown = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    assert "-m xmodal sweep 'dmsf' 'wikipedia' --bits='16,32'" in shown
    assert "--trials='3'" in shown
    assert "--dim" not in shown


def test_the_help_of_a_target_lists_the_variables_that_it_takes():
    makefile = (CHECKOUT / "Makefile").read_text().replace("\\\n", "")
    lists = dict(re.findall(r"^(\w+_OPTIONS) = (.+)$", makefile, re.M))
    for target, words, recipe in re.findall(r"^([a-z]+):[^#\n]*## (.*)\n((?:\t.*\n)*)", makefile, re.M):
        for name, text in lists.items():
            recipe = recipe.replace(f"$({name})", text)
        taken = set(re.findall(r"\$\(([A-Z_]+)\)", recipe)) - {"XMODAL", "BIN", "MAKEFILE_LIST"}
        assert set(re.findall(r"([A-Z_]+)=", words)) == taken, target


@pytest.mark.parametrize("slip", ["EPOCH=3", "SEEDS=0,1"])
def test_make_refuses_what_a_target_does_not_take(slip):
    command = ["make", "-n", "-s", "-o", "setup", "train", "METHOD=dmsf", "BITS=16", slip]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
    takes = "METHOD DATA BITS DIM SEED EPOCHS DEVICES"
    assert f"make train takes no {slip.partition('=')[0]}; it takes: {takes}." in done.stderr
    assert (done.returncode, done.stdout) == (2, "")
