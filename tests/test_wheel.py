"""The wheel stands alone: built, installed into an environment of its own, and tried in an empty folder."""

import json
import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT


def run(*command, **options):
    done = subprocess.run(
        [str(each) for each in command],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        **options,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    tracked = run("git", "ls-files", "-z", cwd=CHECKOUT).split("\0")
    for name in filter(None, tracked):  # what is committed, and nothing that lies about in the checkout
        target, origin = source / name, CHECKOUT / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if origin.is_symlink():
            target.symlink_to(origin.readlink())
        elif origin.is_file():
            target.write_bytes(origin.read_bytes())
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def xmodal(wheel, tmp_path_factory):
    """The command, in an environment that borrows the packages of this one, but not its xmodal."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    packages = next(folder.glob("lib/python*/site-packages"))
    (packages / "borrowed.pth").write_text("\n".join(site.getsitepackages()) + "\n")
    run(sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "-q", "--no-deps", wheel)
    return folder / "bin" / "xmodal"


def test_it_holds_every_file_that_a_command_needs(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = run("git", "ls-files", "experiments", "sweeps", cwd=CHECKOUT).split()
    assert len(tracked) > 100
    assert {f"xmodal/{name}" for name in tracked} <= names
    assert {"xmodal/py.typed", "xmodal/templates/method.py.txt", "xmodal/records/page/page.html"} - names == set()


@pytest.mark.slow
def test_a_search_runs_in_an_empty_folder(xmodal, tmp_path):
    home = tmp_path / "work"
    home.mkdir()
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "XMODAL_HOME")}
    options = {"cwd": home, "env": {"XMODAL_DATA": str(CHECKOUT / "data"), "WANDB_MODE": "disabled"} | kept}
    shown = run(xmodal, "sweep", "dmsf", "emoji", "--bits", "64", "--trials", "1", "--epochs", "1", **options)
    record = Path(shown.splitlines()[-1])
    assert record.is_relative_to(home / "runs")
    assert json.loads(record.read_text())["variant"] == "tuned"
    assert (home / "experiments/dmsf/tuned/emoji-64.yaml").is_file()
    other = tmp_path / "other"
    other.mkdir()
    shown = run(xmodal, f"--home={other}", "smoke", "cca", **options)
    assert f"1 methods trained and evaluated; records under {other / 'runs'}" in shown
    assert (other / "runs/cca/emoji/16/smoke-seed0/result.json").is_file()
