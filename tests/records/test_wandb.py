"""W&B: offline is complete, and nothing waits for the network."""

import csv
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
import wandb

from tests.conftest import CHECKOUT
from tests.records.standin import StandIn
from xmodal import paths
from xmodal.__main__ import main
from xmodal.experiment import configuration
from xmodal.records import provenance, wandb_mode
from xmodal.records.loggers import _kept_id, close, loggers, run_id
from xmodal.run import train

pytestmark = pytest.mark.usefixtures("offline")


@pytest.fixture
def key(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")


def test_an_offline_run_is_uploaded_whole(home, key, monkeypatch, capfd):
    monkeypatch.setenv("WANDB_MODE", "offline")
    tuned = CHECKOUT / "experiments" / "dmsf" / "tuned" / "emoji-64.yaml"
    options = ["--data.subset=64", "--trainer.max_epochs=2", "--save_codes=true", "--variant=tuned", "--job_type=tuned"]
    path = train([*configuration(None, None, [tuned]), *options, "--group=dmsf-emoji-64"])
    record, folder = json.loads(path.read_text()), path.parent
    (offline,) = (paths.runs() / "wandb").glob("offline-run-*")
    assert offline.name.endswith(record["wandb_id"])
    inspect = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--summary", "--json", offline.parent]
    seen = json.loads(subprocess.run(inspect, capture_output=True, text=True, check=True).stdout)
    assert (seen["state"], seen["summary"]["test/map"]) == ("finished", record["metrics"]["test/map"])
    assert not [value for value in seen["config"].values() if str(CHECKOUT) in str(value)], "paths of this machine"
    with StandIn() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert main(["sync"]) == 0, capfd.readouterr()
        (first, *_), uploaded = server.runs, {unquote(name): content for name, content in server.files.items()}
        again = len(server.runs)
        assert main(["sync"]) == 0
        assert len(server.runs) == again, "a second upload"
    assert (first["groupName"], first["jobType"]) == ("dmsf-emoji-64", "tuned")
    assert first["tags"] == ["dmsf", "emoji", "size64", "tuned", "seed0"]
    assert first["displayName"] == "dmsf-emoji-size64-tuned-seed0"

    configured = json.loads([each["config"] for each in server.runs if each.get("config")][-1])
    values = {name: entry["value"] for name, entry in configured.items() if name != "_wandb"}
    assert values["model"]["class_path"] == "xmodal.methods.DMSF"
    assert values["trainer"]["max_epochs"] == 2
    assert {key: values[key] for key in ("seed_everything", "setup_hash", "split_hash", "size")} == {
        "seed_everything": 0,
        "setup_hash": record["setup_hash"],
        "split_hash": record["split_hash"],
        "size": 64,
    }

    history = [json.loads(line) for line in server.lines["wandb-history.jsonl"]]
    with (folder / "metrics" / "version_0" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["val/map"]]
    sent = [row["val/map"] for row in history if "val/map" in row]
    assert sent == pytest.approx([float(row["val/map"]) for row in rows], abs=1e-6)
    assert len(sent) == 2
    summary = json.loads(server.lines["wandb-summary.json"][-1])
    for name in ("test/map", "test/map_i2i", "test/map_t2t"):
        assert summary[name] == pytest.approx(record["metrics"][name], abs=1e-6)
    page = (CHECKOUT / "docs" / "how-to" / "wandb.md").read_text()
    panels = re.findall(r"`([^`]+)`", "".join(re.findall(r"^\| (`[^|]+) \|", page, re.M)))
    assert len(panels) == 10
    there = {name.removesuffix("_table") for row in [summary, *history] for name in row}
    assert all(name in there or any(each.startswith(name.removesuffix("...")) for each in there) for name in panels)

    media = {str(file.relative_to(offline / "files")): file for file in (offline / "files" / "media").rglob("*.*")}
    assert len(media) >= 6
    for name, file in media.items():
        assert uploaded.get(name) == file.read_bytes(), name
    contents = set(uploaded.values())
    assert tuned.read_bytes() in contents
    assert (folder / "codes.npz").read_bytes() in contents
    artifacts = {each["artifactTypeName"]: each for each in server.artifacts}
    assert artifacts["configuration"]["artifactCollectionName"] == "dmsf-emoji-64-tuned"
    assert artifacts["codes"]["artifactCollectionName"] == "dmsf-emoji-64-tuned-seed0-codes"
    lineage = json.loads(artifacts["codes"]["metadata"])
    assert lineage["study"] == "dmsf-emoji-64"
    assert lineage["config_hash"] == record["config_hash"]


def test_a_server_that_refuses_or_is_silent_makes_the_run_offline_at_once(key, monkeypatch, capsys):
    monkeypatch.setattr(wandb_mode, "PATIENCE", 0.5)
    with socket.socket() as silent, socket.socket() as refusing:
        silent.bind(("127.0.0.1", 0))
        silent.listen()  # accepts, and never answers
        refusing.bind(("127.0.0.1", 0))
        for each in (silent, refusing):
            url = f"http://127.0.0.1:{each.getsockname()[1]}"
            monkeypatch.setenv("WANDB_BASE_URL", url)
            monkeypatch.setenv("WANDB_MODE", "online")
            started = time.perf_counter()
            assert wandb_mode.mode() == "offline"
            assert time.perf_counter() - started < 2
            assert f"W&B at {url} does not answer" in capsys.readouterr().err
            assert wandb_mode.mode() == "offline"
            assert not capsys.readouterr().err, "said twice"


def test_a_trial_tells_its_commit_and_does_not_ask_git(home, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    found = loggers(home / "runs" / "trial-0000", home / "runs", "study", "trial", ["trial-0000"])
    settings = found[1].experiment.settings
    assert (settings.disable_git, settings.git_commit) == (True, provenance()["commit"])
    close(found)


def test_a_server_that_answers_makes_the_run_online(key, monkeypatch):
    monkeypatch.delenv("WANDB_MODE")
    with StandIn() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert wandb_mode.mode() == "online"


def test_a_server_that_refuses_the_key_makes_the_run_offline(home, key, monkeypatch, capsys):
    """A run that goes on keeps its id."""
    kept = home / "run" / "metrics" / "wandb_id"
    kept.parent.mkdir(parents=True)
    kept.write_text("0123456789abcdef")
    monkeypatch.setenv("WANDB_MODE", "online")
    with StandIn(refuses=True) as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        wandb.teardown()  # another test's settings
        made = loggers(home / "run", paths.runs(), "group", "train", ["dmsf"])
        made[1].experiment.log({"val/map": 0.5})
        close(made)
    assert (run_id(made), kept.read_text()) == ("0123456789abcdef", "0123456789abcdef")
    assert "W&B refuses the run" in capsys.readouterr().err
    assert len(list((paths.runs() / "wandb").glob("offline-run-*"))) == 1


def test_sync_says_what_is_missing(home, monkeypatch, capsys):
    assert main(["sync"]) == 0
    assert "nothing to upload" in capsys.readouterr().out
    (paths.runs() / "wandb" / "offline-run-1-a").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert main(["sync"]) == 2
    assert "no W&B key" in capsys.readouterr().err
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    assert main(["sync"]) == 2
    assert "does not answer" in capsys.readouterr().err


def test_a_workspace_needs_its_package(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    assert main(["workspace"]) == 2
    assert "`make workspace` installs it" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("wandb_workspaces") is None, reason="wandb-workspaces is not installed (an extra)")
@pytest.mark.filterwarnings("ignore:Pydantic V1 style")  # wandb-workspaces 0.4
def test_a_workspace_groups_runs_by_setup(key, monkeypatch, capsys):
    with StandIn() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        assert main(["workspace"]) == 0
    (view,) = server.views
    assert (view["entityName"], view["projectName"]) == ("me", "xmodal")
    sections = json.loads(view["spec"])["section"]
    (runs,) = sections["runSets"]
    assert {"section": "config", "name": "setup_hash.value"} in runs["grouping"]
    bars = sections["panelBankConfig"]["sections"][0]["panels"]
    assert [bar["config"]["metrics"] for bar in bars] == [["test/map"], ["test/map_i2t"], ["test/map_t2i"]]
    assert all((bar["config"]["groupAgg"], bar["config"]["groupArea"]) == ("mean", "stddev") for bar in bars)
    assert "pr_i2t_table" in view["spec"]
    assert f"{server.url}/me/xmodal" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["not a url", "ftp://there", "http://", "https://[", "http://here:abc"])
def test_a_url_that_is_none_is_one_line(home, monkeypatch, capsys, url):
    monkeypatch.setenv("WANDB_BASE_URL", url)
    assert main(["train", "cca", "emoji", "--bits=16", "--data.subset=64"]) == 2
    err = capsys.readouterr().err
    assert f"WANDB_BASE_URL is {url!r}" in err
    assert err.count("\n") == 1


def test_an_empty_mode_is_none(monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.setenv("WANDB_BASE_URL", "")
    monkeypatch.setattr("xmodal.records.wandb_mode.has_key", lambda: False)
    assert wandb_mode.mode() == "offline"
    assert "WANDB_MODE" not in os.environ


def test_a_file_in_the_place_of_wandbs_folder_is_one_line(home, capsys):
    (home / "runs").mkdir()
    (home / "runs" / "wandb").write_text("a file")
    assert main(["train", "cca", "emoji", "--bits=16", "--data.subset=64"]) == 2
    err = capsys.readouterr().err
    assert "WANDB_MODE=disabled" in err
    assert err.count("\n") == 1


class Portal(BaseHTTPRequestHandler):
    """A network's login page: everything is answered with it."""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>please log in</html>")

    do_GET = do_POST

    def log_message(self, *_):
        """Silent."""


def test_sync_behind_a_login_page_says_that_nothing_was_uploaded(home, key, monkeypatch, capsys):
    (paths.runs() / "wandb" / "offline-run-20260101_000000-abc").mkdir(parents=True)
    (paths.runs() / "wandb" / "offline-run-20260101_000000-abc" / "run-abc.wandb").write_bytes(b"")
    monkeypatch.setattr("xmodal.commands.sync.subprocess.run", lambda *_, **__: SimpleNamespace(returncode=0))
    with ThreadingHTTPServer(("127.0.0.1", 0), Portal) as portal:
        Thread(target=portal.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{portal.server_address[1]}")
        assert main(["sync"]) == 2
        portal.shutdown()
    assert "1 of 1 runs are not uploaded" in capsys.readouterr().err


def test_a_full_disk_at_the_end_is_said(tmp_path, monkeypatch, capsys, offline):
    """Its service writes what fits, and ends with status 0."""
    made = loggers(tmp_path / "run", tmp_path, "group", "train", ["a"])
    made[1].experiment.log({"x": 1})
    full = shutil.disk_usage(tmp_path)._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: full)
    close(made)
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("there is no room left for W&B: its copy of this run in ")
    assert str(tmp_path) in said


def test_a_run_that_goes_on_is_one_run_of_wandb(tmp_path):
    """And a run that begins anew, whose metrics were cleared away, is another."""
    kept, ids = tmp_path / "run" / "metrics" / "wandb_id", []
    for _ in range(2):
        made = loggers(tmp_path / "run", tmp_path, "group", "train", ["a"])
        made[1].experiment.log({"x": 1})
        ids.append(run_id(made))
        close(made)
    assert ids == [kept.read_text()] * 2
    parts = [each.name for each in (tmp_path / "wandb").glob("offline-run-*")]  # of one second: one ends in -1
    assert len(parts) == 2
    assert all(f"-{ids[0]}" in name for name in parts)
    kept.unlink()
    assert _kept_id(kept) != ids[0]


def test_the_summary_of_an_offline_run_is_its_record(home, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    options = ["--data.subset=64", "--trainer.max_epochs=4", "--model.bits=16", "--model.image_lr=1", "--gallery=false"]
    path = train([*configuration("djsrh", "emoji", []), *options])
    record = json.loads(path.read_text())
    with next((path.parent / "metrics").glob("*/metrics.csv")).open() as file:
        assert (
            record["metrics"]["val/map"] > [float(row["val/map"]) for row in csv.DictReader(file) if row["val/map"]][-1]
        )
    (offline,) = (paths.runs() / "wandb").glob("offline-run-*")
    inspect = [Path(sys.executable).with_name("wandb"), "leet", "inspect", "--summary", "--json", offline]
    seen = json.loads(subprocess.run(inspect, capture_output=True, text=True, check=True).stdout)
    assert {name: seen["summary"][name] for name in record["metrics"]} == record["metrics"]
