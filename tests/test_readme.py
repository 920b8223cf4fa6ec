"""The commands of README and docs are commands of the suite, and the README's numbers stand in results/."""

import re
import shlex
import subprocess
from contextlib import suppress

import pytest

from tests.conftest import CHECKOUT
from xmodal.__main__ import COMMANDS as KNOWN
from xmodal.__main__ import main

README = (CHECKOUT / "README.md").read_text()
BLOCK = re.compile(r"^```[a-z]*\n(.*?)^```$|^((?: {4}[^\n]*\n)+)", re.M | re.S)  # fenced, or indented by four
TEXTS = [README, (CHECKOUT / "CONTRIBUTING.md").read_text()]
TEXTS += [path.read_text() for path in sorted((CHECKOUT / "docs").rglob("*.md")) if path.name != "decisions.md"]
COMMANDS = sorted(
    {
        line
        for text in TEXTS
        for line in re.findall(
            r"^ *(?:\$ )?((?:make|xmodal|python) .+?)(?:\s+#.*)?$", "\n".join(map("".join, BLOCK.findall(text))), re.M
        )
    }
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_understood(command, home, capsys):
    words = shlex.split(command)
    if words[0] == "make":
        makefile = (CHECKOUT / "Makefile").read_text()
        assert re.search(rf"^{words[1]}:", makefile, re.M), words[1]
        for word in words[2:]:
            assert f"$({word.split('=')[0]})" in makefile, word
        dry = subprocess.run(["make", "-n", *words[1:]], cwd=CHECKOUT, capture_output=True, text=True, check=True)
        made = [line for line in dry.stdout.splitlines() if " -m xmodal " in line]
        words = shlex.split(made[-1].partition(" -m ")[2]) if made and words[1] != "test" else []
    if words[:2] == ["python", "-m"]:
        words = words[2:]
    if words[:1] == ["xmodal"]:
        understood(words[1], words[2:], capsys)
    elif words:
        assert words[0] == "python"
        code = (CHECKOUT / words[1]).read_text()
        assert all(f'"{word}"' in code for word in words[2:] if word.startswith("--")), command


def understood(command, words, capsys):
    """A training is parsed whole; of other commands, options and files are known."""
    assert command in KNOWN
    own = {word for word in words if word.endswith((".yaml", ".py")) or word == "mine"}  # what the reader has written
    if command in ("train", "fit") and not own:
        with pytest.raises(SystemExit, match="0"):
            main([command, *words, "--print_config"])
        return
    with suppress(SystemExit):
        main([command, "--help"])
    known = capsys.readouterr().out
    for word in words:
        assert command == "train" or not word.startswith("--") or re.search(rf"{word.split('=')[0]}\b", known), word
    if command in ("sweep", "ablate", "bits", "plots") and not own:
        method, data = words[:2]
        assert (CHECKOUT / "sweeps" / f"{method}.yaml").is_file()
        assert (CHECKOUT / "experiments" / method / f"{data}.yaml").is_file()


def test_the_readme_has_commands_and_they_include_the_two():
    assert any(command.startswith("make sweep METHOD=dmsf BITS=64") for command in COMMANDS)
    assert "make test" in COMMANDS
    assert len(COMMANDS) > 20


def test_the_readme_takes_two_screens_before_its_links():
    assert len(README[: README.index("## Documentation")].splitlines()) < 120


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", README + TEXTS[1]))))
def test_a_link_of_readme_and_contributing_leads_somewhere(path):
    assert path.startswith("https://") or (CHECKOUT / path).exists(), path


def test_the_measured_numbers_of_the_readme_stand_in_the_records_table():
    measured = (CHECKOUT / "results" / "measured.csv").read_text()
    texts = README + (CHECKOUT / "docs" / "results-in-short.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| (0[^|]* \+- [^|]+) \| (0[^|]* \+- [^|]+) \|$", texts, re.M)
    assert len(rows) >= 15
    for i2t, t2i in rows:
        assert f"{i2t},{t2i}," in measured
