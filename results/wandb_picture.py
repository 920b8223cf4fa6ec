"""Makes docs/pictures/wandb.png, light and dark: `python results/wandb_picture.py`, which first searches for 6 trials.

The search logs offline, into a folder of its own that is removed in the end. `wandb leet`, W&B's reader for the
terminal, opens its files in tmux, is asked for all runs and six metrics, and its screen is photographed as a page.
"""

import io
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pictures import XMODAL, photograph
from rich.console import Console
from rich.terminal_theme import DEFAULT_TERMINAL_THEME as COLOURS
from rich.terminal_theme import TerminalTheme
from rich.text import Text

from xmodal import paths

COLUMNS, LINES = 150, 34  # the last line names a folder of this machine and is cut off
KEYS = ("C-a", "y", "/", "-l ^(val/map|train/(loss|inter|label)$)", "Enter")  # all runs, yes; those metrics only
GRID = {
    "workspace_metrics_grid": {"rows": 2, "cols": 3},
    "chart_guides": "horizontal",
    "startup_mode": "workspace_latest",
}
SCHEMES = {"light": ("#ffffff", "#24292f"), "dark": ("#0d1117", "#d0d7de")}  # ground and text
PAGE = """<meta charset="utf-8"><style>
body {{ margin: 10px; background: {0}; color: {1} }} pre {{ margin: 0; font: 15px/1.2 'DejaVu Sans Mono', monospace }}
i {{ display: inline-block; width: 1ch; font-style: normal }} .dark {{ display: none }}
@media (prefers-color-scheme: dark) {{
  body {{ background: {2}; color: {3} }} .dark {{ display: block }} .light {{ display: none }}
}}
</style>"""


def screen(runs: Path, scheme: str, own: Path) -> str:
    """What `wandb leet` shows of a folder of runs, as HTML; `own` is a folder for its settings."""
    ground, text = SCHEMES[scheme]
    own.mkdir()
    (own / "wandb-leet.json").write_text(json.dumps(GRID))
    (own / "tmux.conf").write_text(f"set -g window-style bg={ground},fg={text}\n")  # which leet asks for
    (runs / ".wandb-leet.json").unlink(missing_ok=True)  # what it was asked for last
    tmux = ["tmux", "-S", str(own / "socket"), "-f", str(own / "tmux.conf")]
    size = ["-x", str(COLUMNS), "-y", str(LINES)]
    variables = os.environ | {"WANDB_CONFIG_DIR": str(own), "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    subprocess.run([*tmux, "new-session", "-d", *size, "wandb", "leet", str(runs)], check=True, env=variables)
    try:
        time.sleep(8)
        for key in KEYS:
            subprocess.run([*tmux, "send-keys", *key.split()], check=True)
            time.sleep(1)
        time.sleep(2)
        seen = subprocess.run([*tmux, "capture-pane", "-p", "-e"], check=True, capture_output=True, text=True).stdout
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi("\n".join(seen.splitlines()[: LINES - 1])), soft_wrap=True)
    normal = [COLOURS.ansi_colors[number] for number in range(16)]
    theme = TerminalTheme(*([tuple(bytes.fromhex(each[1:])) for each in (ground, text)]), normal[:8], normal[8:])
    code = console.export_html(theme=theme, code_format="{code}", inline_styles=True)
    code = re.sub(
        "[\u2800-\u28ff]", lambda found: f"<i>{found[0]}</i>", code
    )  # fonts have these dots wider than a cell
    return f'<pre class="{scheme}">{code}</pre>'


def main() -> None:
    """Search, look, photograph."""
    os.environ |= {"WANDB_MODE": "offline", "XMODAL_DATA": str(paths.data("").resolve())}
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # where `wandb` lies
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        command = [*XMODAL, "sweep", "dmsf", "emoji", "--bits=64", "--trials=6"]
        subprocess.run(command, check=True, env=os.environ | {"XMODAL_HOME": folder})
        shown = [screen(home / "runs" / "wandb", scheme, home / scheme) for scheme in SCHEMES]
        page = home / "page.html"
        page.write_text(PAGE.format(*SCHEMES["light"], *SCHEMES["dark"]) + "".join(shown))
        photograph(page.as_uri(), "wandb", 18 * (LINES - 1) + 20)


if __name__ == "__main__":
    main()
