"""`xmodal dashboard` says what is missing, and serves the studies where optuna-dashboard is installed."""

import json
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from urllib.request import urlopen

import optuna
import pytest

from xmodal.__main__ import main


@pytest.fixture
def study(home):
    (home / "runs").mkdir()
    url = f"sqlite:///{home / 'runs' / 'sweeps.db'}"
    optuna.create_study(study_name="dmsf-emoji-64", storage=url)


def test_without_studies_it_says_how_to_make_one(home, capsys):
    assert main(["dashboard"]) == 2
    assert "make sweep METHOD=dmsf BITS=64" in capsys.readouterr().err
    assert main(["dashboard", "--port=x"]) == 2
    assert "PORT is 'x'" in capsys.readouterr().err


def test_without_the_package_it_says_how_to_install_it(study, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert main(["dashboard"]) == 2
    assert "`make dashboard` installs it" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("optuna_dashboard") is None, reason="optuna-dashboard is not installed (an extra)")
def test_it_serves_the_studies(study):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "xmodal", "dashboard", f"--port={port}"]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            try:
                studies = json.load(urlopen(f"http://127.0.0.1:{port}/api/studies"))["study_summaries"]
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        assert [study["study_name"] for study in studies] == ["dmsf-emoji-64"]
    finally:
        process.terminate()
        process.wait()
