"""Where things lie: the checkout's folders, and the data root that `XMODAL_DATA` may move.

`XMODAL_HOME` replaces the checkout (tests and read-only installs); nothing outside these folders is ever written.
"""

import os
from pathlib import Path


def home() -> Path:
    """The folder that holds `experiments/`, `sweeps/`, `data/` and `runs/`: `XMODAL_HOME`, or the checkout itself."""
    return Path(os.environ.get("XMODAL_HOME") or Path(__file__).resolve().parents[2])


def experiments() -> Path:
    """Experiment files, `<method>/<dataset>.yaml`."""
    return home() / "experiments"


def sweeps() -> Path:
    """Search spaces, `<method>.yaml`."""
    return home() / "sweeps"


def runs() -> Path:
    """Run records, `<method>/<dataset>/<bits>/<seed or trial>/`, and the study database."""
    return home() / "runs"


def data(name: str) -> Path:
    """The folder of one dataset: `$XMODAL_DATA/<name>`, or `data/<name>` in the checkout."""
    return Path(os.environ.get("XMODAL_DATA") or home() / "data") / name
