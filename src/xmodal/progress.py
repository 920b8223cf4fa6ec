"""Progress bars, on a terminal only: a file or a pipe gets one line that says what begins."""

import sys
from typing import Any

from tqdm import tqdm

tqdm.monitor_interval = 0  # or there is a thread in the command, of which forks know nothing


def bar(*items: Any, **options: Any) -> Any:  # noqa: ANN401 - tqdm's own
    """A bar on stderr if that is a terminal; else a line with `desc` and `total`, where there is a `desc`.

    Args:
        items: what is gone through, at most one iterable.
        options: further arguments of `tqdm`.
    """
    made = tqdm(*items, **{"disable": None, **options})
    if made.disable and options.get("disable") is None and options.get("desc"):
        sys.stderr.write(f"{options['desc']}: {options.get('total', *map(len, items))} {options['unit']}s\n")
    return made
