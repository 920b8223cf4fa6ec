"""What counts as uncommitted code: not what commands write."""

import importlib
import subprocess
import sys
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
import yaml

from xmodal import code
from xmodal.cli import Parsed
from xmodal.commands.table import Cell
from xmodal.encoders import OpenClipText
from xmodal.errors import UserError
from xmodal.experiment import configuration
from xmodal.methods import CCA
from xmodal.records import machine

MADE = ("README.md", "results/measured.csv", "docs/results.md", "experiments/dmsf/tuned/emoji-64.yaml")
CODE = ("src/xmodal/run.py", "experiments/dmsf/emoji.yaml", "docs/metrics.md")


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    for name in (*MADE, *CODE):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before\n")
    for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "all")):
        git = ["git", "-c", "user.name=nobody", "-c", "user.email=nobody@example.org", *words]
        subprocess.run(git, cwd=tmp_path, check=True)
    monkeypatch.setattr(code, "__file__", str(tmp_path / "src" / "xmodal" / "run.py"))
    code.provenance.cache_clear()
    yield tmp_path
    code.provenance.cache_clear()


def test_a_checkout_is_known_by_its_folder_where_this_very_file_is_new_to_git(checkout, monkeypatch):
    (checkout / "src/xmodal/moved.py").write_text("new\n")
    monkeypatch.setattr(code, "__file__", str(checkout / "src/xmodal/moved.py"))
    assert (len(code.provenance()["commit"]), code.provenance()["dirty"]) == (40, True)


def test_what_commands_write_is_no_change_of_the_code(checkout):
    for name in MADE:
        (checkout / name).write_text("after\n")
    (checkout / "results" / "leads.csv").write_text("new\n")
    assert code.provenance()["dirty"] is False
    assert code.provenance()["diff"] is None


@pytest.mark.parametrize("name", [*CODE, "src/xmodal/new.py"])
def test_a_change_of_the_code_is_one(checkout, name):
    (checkout / name).write_text("after\n")
    assert code.provenance()["dirty"] is True
    before = code.provenance()["diff"]
    assert len(before) == 16
    (checkout / name).write_text("after that\n")
    code.provenance.cache_clear()
    assert code.provenance()["diff"] != before


@pytest.mark.parametrize("told", [None, "{}", '{"vcs_info": {"commit_id": "abc", "vcs": "git"}}'])
def test_an_installed_package_is_not_of_the_repository_around_it(checkout, monkeypatch, told):
    """Such as a project with its `.venv`, which git ignores; pip says what it installed from a repository."""
    (checkout / ".gitignore").write_text(".venv\n")
    inside = checkout / ".venv" / "xmodal" / "record.py"
    inside.parent.mkdir(parents=True)
    inside.touch()
    monkeypatch.setattr(code, "__file__", str(inside))
    monkeypatch.setattr(code, "distribution", lambda name: SimpleNamespace(read_text=lambda file: told))
    said = code.provenance()
    assert (said["commit"], said["dirty"], said["diff"]) == ("abc" if "abc" in f"{told}" else None, None, None)


def test_code_of_ones_own_is_named_by_its_content(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(code, "IMPORTED", {})
    file = tmp_path / "of_my_own.py"
    file.write_text("class Mine: pass\n")
    (name, before), *others = code.own_code(CCA, importlib.import_module("of_my_own").Mine).items()
    assert (name, others) == ("of_my_own.Mine", [])
    file.write_text("class Mine: better = True\n")
    code.check_imported(1)  # this process and its forks run what was imported
    with pytest.raises(UserError, match="of_my_own was edited since the command began"):
        code.check_imported(2)
    assert code.own_code(sys.modules["of_my_own"].Mine)[name] == before
    assert code.own_code(importlib.reload(sys.modules["of_my_own"]).Mine)[name] != before


def test_code_of_ones_own_is_what_it_imports_beside_it_as_well(tmp_path, monkeypatch):
    """Also as a package, and through others; and neither what lies there unused nor an installed package's friends."""
    texts = {
        "whole_of_mine/__init__.py": "",
        "whole_of_mine/methods/__init__.py": "",
        "whole_of_mine/methods/net.py": "import wandb, xmodal\nfrom ..base import Base\nclass Mine(Base): pass\n",
        "whole_of_mine/base.py": "def late(): from whole_of_mine import helper\nclass Base: pass\n",
        "whole_of_mine/helper.py": "from . import helper\n",
        "whole_of_mine/unused.py": "}",
    }
    (tmp_path / "wandb").mkdir()  # runs, and no module
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    mine = importlib.import_module("whole_of_mine.methods.net").Mine

    def changed(name):
        code.IMPORTED.clear()
        before = code.own_code(mine)
        (tmp_path / name).write_text(texts[name] + "\nmore = 1\n")
        code.IMPORTED.clear()
        return code.own_code(mine) != before

    assert {name for name in texts if changed(name)} == texts.keys() - {
        "whole_of_mine/unused.py",
        "whole_of_mine/methods/__init__.py",
    }
    monkeypatch.setattr(code.sysconfig, "get_path", lambda _: str(tmp_path))
    texts["whole_of_mine/base.py"] += "\n"
    assert not changed("whole_of_mine/base.py")


def test_weights_of_a_trunk_are_code_of_ones_own(tmp_path):
    """A run that trains them anew leaves them under the same name."""
    file, encoder = tmp_path / "best.ckpt", "--data.image_encoder"
    command = [*configuration("dmsf", "emoji"), f"{encoder}=TimmImage", f"{encoder}.weights={file}"]
    assert Parsed(command).own_code == {}
    file.write_text("once")
    (before,) = Parsed(command).own_code.items()
    file.write_text("again")
    ((key, after),) = Parsed(command).own_code.items()
    assert key == before[0] == "data.init_args.image_encoder.init_args.weights"
    assert after != before[1]


@pytest.mark.parametrize(("given", "name"), [("{}", "model.json"), ("local-dir:{}", "")])
def test_files_of_a_model_are_code_of_ones_own(tmp_path, given, name):
    """Another number of heads fits the same weights; a folder of open_clip's holds both."""
    encoder, model = "--data.text_encoder", given.format(tmp_path / name)
    command = [*configuration("dmsf", "emoji"), f"{encoder}=OpenClipText", f"{encoder}.model={model}"]
    found = []
    for text in ("two heads", "four heads"):
        (tmp_path / "model.json").write_text(text)
        found.append((Parsed(command).own_code, OpenClipText(model).key()))
    (one, key), (other, other_key) = found
    assert [*one] == [*other] == ["data.init_args.text_encoder.init_args.model"]
    assert one != other
    assert key != other_key


def test_callbacks_of_ones_own_are_code_as_well(tmp_path, monkeypatch):
    """And nothing of Lightning, whose version a record names."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "watching.py").write_text("from lightning import Callback\nclass Mine(Callback): pass\n")
    command = [*configuration("dmsf", "emoji"), "--trainer.callbacks+=watching.Mine"]
    assert [*Parsed([*command, "--trainer.callbacks+=LearningRateMonitor"]).own_code] == ["watching.Mine"]


def test_functions_of_ones_own_are_code_as_well(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "hooked.py").write_text("def shrink(trainer, module): pass\n")
    command = [*configuration("dmsf", "emoji"), "--trainer.callbacks=LambdaCallback"]
    assert [*Parsed([*command, "--trainer.callbacks.on_fit_start=hooked.shrink"]).own_code] == ["hooked.shrink"]


def test_functions_of_ones_own_are_part_of_the_rule_of_a_table(home, monkeypatch, tmp_path):
    """Nobody has imported them yet."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "tabled.py").write_text("def shrink(trainer, module): pass\n")
    file = home / "experiments/cca/emoji.yaml"
    hook = {"class_path": "LambdaCallback", "init_args": {"on_fit_start": "tabled.shrink"}}
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"trainer": {"callbacks": [hook]}}))
    rule = Cell("cca", "emoji", "dim", (8,)).rule(Namespace(trials="1", seeds="0", epochs=None))
    assert "tabled.shrink" in rule


def test_a_record_names_variables_by_which_libraries_compute_otherwise(monkeypatch):
    """`MKL_CBWR=COMPATIBLE` gives other weights; `WANDB_MODE` does not."""
    before = machine(torch.device("cpu"))
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    after = machine(torch.device("cpu"))
    assert after["variables"] == before["variables"] | {"MKL_CBWR": "COMPATIBLE"}
