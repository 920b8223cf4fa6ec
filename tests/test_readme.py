"""The commands of README and docs are commands of the suite, and the README's numbers stand in results/."""

import re
import shlex
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.conftest import CHECKOUT
from tests.studies.conftest import inline, keep, started  # noqa: F401 - fixtures
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


# Documented commands that the walk below does not run: where they are run instead, or why none runs them. Of these the
# words are checked alone.
ELSEWHERE = {
    r"make (setup|lint|types|test)": "CI runs them, one after another",
    r"make (sync|workspace)": "records/test_wandb.py runs both against a server that stands in for W&B",
    r"make train .*SEED=[12]": "the same with seed 0 is run here",
    r"make sweep METHOD=(cca|dmsf BITS=16,)": "one of DMSF is run here, two sizes in studies/test_study.py",
    r"make dashboard": "studies/test_dashboard.py serves one",
    r"xmodal .*(photos|mine)": "test_own_page.py runs the commands of own-data.md, 16 bits where the README has 64",
    r"xmodal search INDEX": "search/test_search.py asks by words, by a picture and from a file",
    r"xmodal train (pretrain emoji|text_guided_clip emoji-)": "encoders/test_trunk.py trains trunks, in less time",
    r"python -m xmodal train dagan": "methods/test_processes.py runs every method on two, three and eight processes",
    r"python benchmarks/": "they need a GPU",
}
# In this order; what the others need comes first.
WALK = ("make train", "make sweep", "xmodal train", "make ablate", "make bits", "make plots", "make compare", "xmodal")
REST = [command for command in COMMANDS if any(re.match(pattern, command) for pattern in ELSEWHERE)]


@pytest.mark.parametrize("command", REST)
def test_a_command_that_is_run_elsewhere_is_understood(command, capsys):
    [where] = [words for pattern, words in ELSEWHERE.items() if re.match(pattern, command)]
    assert all((CHECKOUT / "tests" / file).is_file() for file in re.findall(r"\S+\.py", where))
    words = made(command)
    if words[:1] == ["xmodal"]:
        understood(words[1], words[2:], capsys)
    elif words:
        assert words[0] == "python"
        code = (CHECKOUT / words[1]).read_text()
        assert all(f'"{word}"' in code for word in words[2:] if word.startswith("--")), command


def made(command):
    """What a documented command comes to: words of `xmodal`, or of `python`; none for what make does alone."""
    words = shlex.split(command)
    if words[0] == "make":
        makefile = (CHECKOUT / "Makefile").read_text()
        assert re.search(rf"^{words[1]}:", makefile, re.M), words[1]
        for word in words[2:]:
            assert f"$({word.split('=')[0]})" in makefile, word
        dry = subprocess.run(["make", "-n", *words[1:]], cwd=CHECKOUT, capture_output=True, text=True, check=True)
        found = [line for line in dry.stdout.splitlines() if " -m xmodal " in line]
        return shlex.split(found[-1].partition(" -m ")[2]) if found and words[1] != "test" else []
    return words[2:] if words[:2] == ["python", "-m"] else words


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


def test_every_other_command_is_run_as_it_stands(home, monkeypatch, started, capsys):  # noqa: F811
    """On 64 pairs, one epoch, one trial, one seed and one variant, without new processes."""
    keep(home, "dmsf", "no_graph")
    for path in [home / "experiments/default.yaml", *(home / "experiments").glob("[cd][cm]*/**/emoji*.yaml")]:
        content = yaml.safe_load(path.read_text())
        content.setdefault("trainer", {})["max_epochs"] = 1
        if "data" in content:
            content["data"]["init_args"] = {"subset": 64}
        path.write_text(yaml.safe_dump(content | {"gallery": False}))
    for path in (home / "sweeps").glob("*.yaml"):
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"trials": 1}))
    pictures = home / "pictures"
    pictures.mkdir()
    Image.new("RGB", (64, 64), "red").save(pictures / "red.png")
    monkeypatch.chdir(home)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("WANDB_MODE", "disabled")
    walk = [[each for each in COMMANDS if each not in REST and each.startswith(start)] for start in WALK]
    walk = list(dict.fromkeys(command for each in walk for command in each))
    assert len(walk) > 12
    for command in walk:
        words = [str(Path(word).expanduser()) for word in made(command)]
        assert words[0] == "xmodal", command
        seeds = ["--seeds=0"] if words[1] in ("ablate", "bits") else []
        assert main([*words[1:], *seeds]) == 0, command
    assert (home / "runs" / "compare.html").is_file()
    [snippet] = re.findall(r"```python\n(.*?)```", (CHECKOUT / "docs" / "search.md").read_text(), re.S)
    capsys.readouterr()
    exec(snippet, {})
    assert re.fullmatch(r"1 \d+ red\.png\n", capsys.readouterr().out)


def test_a_command_in_a_sentence_is_one_of_the_suite():
    named = {pair for text in TEXTS for pair in re.findall(r"`(make|xmodal) ([a-z]\w*)", text)}
    assert {name for start, name in named if start == "xmodal"} <= {*KNOWN, "default", "fast"}  # columns of the speed
    targets = re.findall(r"^([a-z]+):", (CHECKOUT / "Makefile").read_text(), re.M)
    assert {name for start, name in named if start == "make"} <= set(targets)


def test_the_readme_has_commands_and_they_include_the_two():
    assert any(command.startswith("make sweep METHOD=dmsf BITS=64") for command in COMMANDS)
    assert "make test" in COMMANDS
    assert len(COMMANDS) > 20


def test_the_readme_takes_two_screens_before_its_links():
    assert len(README[: README.index("## Documentation")].splitlines()) < 120


LINKS = re.compile(r"\]\(([^)#]+?)(?:#[^)]*)?\)|src(?:set)?=\"([^\"]+)\"")


@pytest.mark.parametrize("path", sorted({"".join(found) for found in LINKS.findall(README + TEXTS[1])}))
def test_a_link_of_readme_and_contributing_leads_somewhere(path):
    assert path.startswith("https://") or (CHECKOUT / path).exists(), path


def test_the_measured_numbers_of_the_readme_stand_in_the_records_table():
    measured = (CHECKOUT / "results" / "measured.csv").read_text()
    texts = README + (CHECKOUT / "docs" / "results-in-short.md").read_text()
    rows = re.findall(r"^\| [^|]+ \| (0[^|]* \+- [^|]+) \| (0[^|]* \+- [^|]+) \|$", texts, re.M)
    assert len(rows) >= 15
    for i2t, t2i in rows:
        assert f"{i2t},{t2i}," in measured
