"""docs/own-data.md: its commands are run as they stand there, on pictures that are drawn here."""

import csv
import re
import shlex
import sys

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.conftest import CHECKOUT
from tests.studies.conftest import inline  # noqa: F401 - a fixture
from xmodal.__main__ import main

PAGE = (CHECKOUT / "docs" / "own-data.md").read_text()
COLOURS = {"red": (220, 40, 40), "green": (40, 180, 60), "blue": (50, 80, 220)}


def draw(folder):
    """60 pictures of coloured circles and squares, and what they show as `captions.csv`."""
    rng = np.random.default_rng(0)
    (folder / "photos").mkdir()
    with (folder / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "caption", "tags"])
        for k in range(60):
            colour, shape = list(COLOURS)[k % 3], ("circle", "square")[k // 3 % 2]
            picture = Image.new("RGB", (96, 96), "white")
            x, y = (int(number) for number in rng.integers(5, 45, 2))
            paint = ImageDraw.Draw(picture).ellipse if shape == "circle" else ImageDraw.Draw(picture).rectangle
            paint((x, y, x + 45, y + 45), fill=COLOURS[colour])
            picture.save(folder / "photos" / f"{k:02d}.png")
            writer.writerow([f"{k:02d}.png", f"a {colour} {shape} number {k}", f"{colour}|{shape}"])


@pytest.mark.slow
def test_the_commands_of_the_page_do_what_it_says(home, monkeypatch, capsys, inline):  # noqa: F811
    monkeypatch.setenv("XMODAL_DATA", str(home / "data"))
    monkeypatch.chdir(home)
    monkeypatch.delitem(sys.modules, "mine", raising=False)  # of another test
    monkeypatch.setattr(sys, "path", [*sys.path])
    draw(home)
    assert PAGE.splitlines()[10:13] == (home / "captions.csv").read_text().splitlines()[:3]
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.S):
        for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, shown = part.partition("\n")
            words = shlex.split(command)
            assert words[0] == "xmodal"
            assert main(words[1:]) == 0, command
            said = capsys.readouterr().out
            assert shown in said, said
    assert (home / "runs" / "compare.html").is_file()
    main(["compare", "--data=photos"])
    rows = capsys.readouterr().out.splitlines()
    scores = {row.split()[0]: row for row in rows[1:]}
    assert {"dcmh", "cca", "mine"} <= scores.keys()
    assert "tuned" in scores["dcmh"]
