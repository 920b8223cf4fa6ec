"""The commands of the README are commands of the suite, and its numbers stand in results/."""

import re
import shlex

import pytest

from tests.conftest import CHECKOUT

README = (CHECKOUT / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"^(?:\$ )?((?:make|xmodal) .+?)(?:\s+#.*)?$", README, re.M)))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_readme_exists(command):
    words = shlex.split(command)
    if words[0] == "make":
        makefile = (CHECKOUT / "Makefile").read_text()
        assert re.search(rf"^{words[1]}:", makefile, re.M), words[1]
        for word in words[2:]:
            name = word.split("=")[0]
            assert f"$({name})" in makefile, name
            if name == "METHOD":
                assert (CHECKOUT / "experiments" / word.split("=")[1]).is_dir()
    else:
        from xmodal.__main__ import COMMANDS as KNOWN

        assert words[1] in KNOWN


def test_the_readme_has_commands_and_they_include_the_two():
    assert any(command.startswith("make sweep METHOD=dmsf BITS=64") for command in COMMANDS)
    assert "make test" in COMMANDS


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", README))))
def test_a_link_of_the_readme_leads_somewhere(path):
    assert path.startswith("https://") or (CHECKOUT / path).exists(), path


def test_the_measured_numbers_of_the_readme_stand_in_the_records_table():
    measured = (CHECKOUT / "results" / "measured.csv").read_text()
    rows = re.findall(r"^\| [^|]+ \| (0[^|]* \+- [^|]+) \| (0[^|]* \+- [^|]+) \|$", README, re.M)
    assert len(rows) >= 15
    for i2t, t2i in rows:
        assert f"{i2t},{t2i}," in measured
