"""Where things lie: the working folder's, and the experiment and sweep files that the package brings.

The working folder is `XMODAL_HOME`, or the checkout, or where the command runs; `XMODAL_DATA` may move the data.
Nothing outside it is ever written. A file of the working folder goes before the package's of the same name.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent  # in a checkout, its experiments/ and sweeps/ are links to the top level


def home() -> Path:
    """The folder that holds `experiments/`, `sweeps/`, `data/` and `runs/`."""
    if given := os.environ.get("XMODAL_HOME"):
        return Path(given)
    checkout = PACKAGE.parents[1]
    return checkout if (checkout / "pyproject.toml").is_file() and PACKAGE.parent.name == "src" else Path.cwd()


def places(given: str | Path) -> tuple[Path, Path]:
    """Where a path that somebody gives may lie: here, or in the home."""
    return Path(given), home() / given


def experiments() -> Path:
    """Experiment files of the working folder, `<method>/<dataset>.yaml`; a sweep writes `<method>/tuned` here."""
    return home() / "experiments"


def sweeps() -> Path:
    """Search spaces of the working folder, `<method>.yaml`."""
    return home() / "sweeps"


def found(own: Path) -> Path:
    """A file or folder of the working folder, or the package's in its place where it has none.

    Args:
        own: below `experiments()` or `sweeps()`.
    """
    if not own.is_relative_to(home()):  # a name with a slash in front
        return own
    packaged = PACKAGE / own.relative_to(home())
    return packaged if not own.exists() and packaged.exists() else own


def listed(own: Path, pattern: str) -> list[Path]:
    """The files below a folder that match, those of the working folder before the package's of the same name.

    Args:
        own: `experiments()` or `sweeps()`, or a folder below.
        pattern: as `Path.glob` has it.
    """
    folders = (PACKAGE / own.relative_to(home()), own)
    return [path for _, path in sorted({str(p.relative_to(f)): p for f in folders for p in f.glob(pattern)}.items())]


def methods(data: str = "*") -> list[str]:
    """The methods with an experiment file for a dataset, or for any, in the working folder or the package."""
    return sorted({path.parent.name for path in listed(experiments(), f"*/{data}.yaml")})


def datasets(method: str = "*") -> list[str]:
    """The datasets for which a method, or any, has an experiment file, in the same folders."""
    return sorted({path.stem for path in listed(experiments(), f"{method}/*.yaml")})


def shown(file: Path) -> str:
    """How an experiment file is called in a table: without the folders that all have in common."""
    above = (experiments(), PACKAGE / "experiments", home())
    return next((str(file.relative_to(each)) for each in above if file.is_relative_to(each)), str(file))


def runs() -> Path:
    """Run records, `<method>/<dataset>/<bits>/<seed or trial>/`, and the study database."""
    return home() / "runs"


def data(name: str) -> Path:
    """The folder of one dataset: `$XMODAL_DATA/<name>`, or `data/<name>` in the working folder."""
    return Path(os.environ.get("XMODAL_DATA") or home() / "data") / name
