"""YAML that people write is bounded, and says what it says once."""

import time

import pytest

from xmodal.cli import Parsed
from xmodal.errors import UserError
from xmodal.experiment import configuration
from xmodal.safe_yaml import parse_yaml, read_yaml
from xmodal.studies.space import read_search

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)
BAD = {
    "twice": ("model: {a: 1}\ndata: 2\nmodel: 3\n", "'model' is there twice, again in line 3"),
    "twice inside": ("model: {a: 1, a: 2}", "'a' is there twice"),
    "bomb": (BOMB, "more than 50000 values once its aliases are written out"),
    "itself": ("a: &a [*a]", "holds itself"),
    "deep": ("a: " + "[" * 5000, "nested deeper than 32"),
    "deep, with few signs": ("a: " + "[" * 290 + "]" * 290, "nested deeper than 32"),
    "deep in a mapping": ("".join(f"{' ' * depth}a:\n" for depth in range(290)), "nested deeper than 32"),
    "one level too deep": ("[" * 33 + "]" * 33, "nested deeper than 32"),
    "deep by aliases": ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 60)), "nested deeper"),
    "large": ("# " + "x" * 300_000, "larger than 256 KiB"),
    "no text": ("1: 2", "is no text"),
    "list as key": ("? [a]\n: b", "is no text"),
    "open bracket": ("a: [1\nb: 2", "line 2, column 2 (`b: 2`): the list or mapping in brackets is not closed"),
    "indented": (
        "model:\n  bits: 64\n weights: 1",
        "line 3, column 2 (`weights: 1`): this belongs to nothing above it",
    ),
    "two colons": ("# note\na: b: c", "line 2, column 5 (`a: b: c`): no key can be here"),
    "tab": ("a:\n\tb: 1", "line 2, column 1 (`b: 1`): nothing begins with this character: indent by spaces"),
    "open quote": ("a: 'x\nb: 2\n", "line 3, column 1: quotes that were opened are never closed"),
    "no colon": ("a\nb\n: 1", "is no YAML: line "),
    "object": ("a: !!python/object:os.system x", "line 1, column 4 (`a: !!python/object:os.system x`): tags"),
    "no date": ("a: 2001-99-99", "is no YAML"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_line_at_once(home, name):
    text, words = BAD[name]
    path = home / "bad.yaml"
    path.write_text(text)
    started = time.perf_counter()
    for read in (read_yaml, read_search, lambda file: Parsed(configuration(None, None, [file]))):
        with pytest.raises(UserError) as error:
            read(path)
        assert words in str(error.value)
        assert "\n" not in str(error.value)
    assert time.perf_counter() - started < 5


def test_aliases_of_a_plain_file_are_read():
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: {<<: {x: 1}, y: 2}", "here") == {
        "a": [1, 2],
        "b": [1, 2],
        "c": {"x": 1, "y": 2},
    }
    assert parse_yaml("", "here") is None
