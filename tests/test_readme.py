"""The commands of README and docs are commands of the suite, and the README's numbers stand in results/."""

import re
import shlex

import pytest

from tests.conftest import CHECKOUT

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
def test_a_command_exists(command):
    words = shlex.split(command)
    if words[0] == "make":
        makefile = (CHECKOUT / "Makefile").read_text()
        assert re.search(rf"^{words[1]}:", makefile, re.M), words[1]
        for word in words[2:]:
            name = word.split("=")[0]
            assert f"$({name})" in makefile, name
            if name == "METHOD":
                assert (CHECKOUT / "experiments" / word.split("=")[1]).is_dir()
        return
    if words[:2] == ["python", "-m"]:
        words = words[2:]
    if words[0] == "python":
        assert (CHECKOUT / words[1]).is_file(), words[1]
    else:
        from xmodal.__main__ import COMMANDS as KNOWN

        assert words[0] == "xmodal"
        assert words[1] in KNOWN


def test_the_readme_has_commands_and_they_include_the_two():
    assert any(command.startswith("make sweep METHOD=dmsf BITS=64") for command in COMMANDS)
    assert "make test" in COMMANDS
    assert len(COMMANDS) > 20


def test_the_readme_takes_two_screens_before_its_links():
    assert len(README[: README.index("## Documentation")].splitlines()) < 100


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", README))))
def test_a_link_of_the_readme_leads_somewhere(path):
    assert path.startswith("https://") or (CHECKOUT / path).exists(), path


def test_the_measured_numbers_of_the_readme_stand_in_the_records_table():
    measured = (CHECKOUT / "results" / "measured.csv").read_text()
    texts = README + (CHECKOUT / "docs" / "results-in-short.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| (0[^|]* \+- [^|]+) \| (0[^|]* \+- [^|]+) \|$", texts, re.M)
    assert len(rows) >= 15
    for i2t, t2i in rows:
        assert f"{i2t},{t2i}," in measured
