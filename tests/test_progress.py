"""Progress bars are drawn on a terminal, and one line takes their place elsewhere."""

import io
import re

from tests.conftest import CHECKOUT
from xmodal.progress import bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_file_gets_one_line_and_a_terminal_a_bar(capsys):
    assert list(bar(iter("abc"), total=3, desc="letters read", unit="letter")) == ["a", "b", "c"]
    with bar(total=5, initial=2, unit="run") as shown:  # of which the caller says what begins
        shown.set_postfix_str("first")
        shown.update()
    assert capsys.readouterr().err == "letters read: 3 letters\n"
    terminal = Terminal()
    list(bar(iter("abc"), total=3, desc="letters read", unit="letter", file=terminal))
    assert "letters read: 100%" in terminal.getvalue()
    assert capsys.readouterr().err == ""


def test_every_bar_is_this_one():
    users = {path.name for path in (CHECKOUT / "src").rglob("*.py") if re.search("import.*tqdm", path.read_text())}
    assert users == {"progress.py"}
