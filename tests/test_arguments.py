"""Command lines: every command's help is light and shows an example, and the completion comes from the same parsers."""

import shlex
import shutil
import subprocess
import sys

import pytest

from xmodal import arguments
from xmodal.__main__ import COMMANDS, LISTED, main
from xmodal.arguments import codes, common
from xmodal.search.engine import KINDS
from xmodal.studies.samplers import PRUNERS, SAMPLERS

HEAVY = {"torch", "numpy", "lightning", "optuna", "jsonargparse", "scipy", "matplotlib", "wandb", "pyarrow", "yaml"}


def test_every_command_has_its_command_line_here():
    assert arguments.COMMANDS.keys() == LISTED.keys()
    assert COMMANDS.keys() - LISTED.keys() == {"trial"}


def test_help_of_no_command_imports_anything_heavy():
    code = (
        "import contextlib, io, sys\nfrom xmodal import arguments\nfrom xmodal.__main__ import main\n"
        "for name in arguments.COMMANDS:\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        main([name, '--help'])\nmain([])\nprint(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert not HEAVY & loaded
    assert "xmodal.arguments" in loaded


@pytest.mark.parametrize("command", arguments.COMMANDS)
def test_help_shows_an_example_that_the_command_takes(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    example = shown.partition("Example: ")[2].partition(";")[0]
    assert example.startswith((f"xmodal {command}", f'eval "$(xmodal {command}'))
    if command != "completion":
        arguments.parser(command).parse_args(shlex.split(example)[2:])


def test_help_lists_the_choices(capsys):
    with pytest.raises(SystemExit):
        main(["sweep", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for word in ("acmr", "text_guided_clip", "emoji", "wikipedia", *SAMPLERS, *PRUNERS, *common.AGAINST):
        assert word in shown
    assert set(common.SAMPLERS) == SAMPLERS.keys()
    assert set(common.PRUNERS) == PRUNERS.keys()
    assert codes.KINDS == KINDS


def complete(words):
    """What bash offers for the last of some words."""
    script = (
        f'eval "$({sys.executable} -m xmodal completion bash)"\nCOMP_WORDS=({" ".join(words)})\n'
        f"COMP_CWORD={len(words) - 1}\n_shtab_xmodal xmodal '{words[-1]}' '{words[-2]}'\n"
        'echo "${COMPREPLY[@]}"'
    )
    return set(subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_completes_commands_options_methods_and_choices():
    assert {"sweep", "smoke", "sync"} <= complete(["xmodal", "s"])
    assert "--warm_start" in complete(["xmodal", "sweep", "--wa"])
    assert {"dmsf"} <= complete(["xmodal", "train", "dm"])
    assert {"--captions"} <= complete(["xmodal", "index", "runs", "--cap"])
    assert {"markdown"} <= complete(["xmodal", "compare", "--format", "ma"])


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_takes_the_script():
    script = (
        f'autoload -Uz compinit; compinit -u; eval "$({sys.executable} -m xmodal completion zsh)"; whence _shtab_xmodal'
    )
    done = subprocess.run(["zsh", "-fc", script], capture_output=True, text=True, check=True)
    assert "_shtab_xmodal" in done.stdout
