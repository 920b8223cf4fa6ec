"""Progress bars, on a terminal only: a file or a pipe gets one line that says what begins."""

import sys
from typing import Any

from tqdm import tqdm

tqdm.monitor_interval = 0  # or there is a thread in the command, of which forks know nothing


def bar(*items: Any, total: int | None, unit: str, desc: str | None = None, **options: Any) -> Any:  # noqa: ANN401 - tqdm's own
    """A bar on stderr if that is a terminal; else a line with `desc` and `total`, where there is a `desc`.

    Args:
        items: what is gone through, at most one iterable.
        total: number of steps, if it is known.
        unit: what one step is.
        desc: what happens; None where the caller has said it.
        options: further arguments of `tqdm`.
    """
    made = tqdm(*items, total=total, unit=unit, desc=desc, **{"disable": None, **options})
    if made.disable and desc and options.get("disable") is None:
        sys.stderr.write(f"{desc}: {total} {unit}s\n")
    return made
