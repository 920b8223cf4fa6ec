"""`xmodal prepare NAME`: check and convert a dataset, encode it once, and say what there is."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from xmodal import arguments
from xmodal.arguments.data import PREPARED
from xmodal.commands.datasets import data_of
from xmodal.errors import UserError


def main(argv: Sequence[str]) -> int:
    """`xmodal prepare NAME [--root FOLDER] [--protocol P] [--max_corrupt N] ...`: see `--help`.

    Raises:
        UserError: no such dataset, its files are missing or damaged, or it has no such option.
    """
    parsed = arguments.parser("prepare").parse_args(list(argv))
    given = {option: getattr(parsed, option) for option in PREPARED if getattr(parsed, option) is not None}
    name, kind, own = data_of(parsed.name)
    from xmodal.keys import arguments_of, built

    if unknown := sorted(given.keys() - arguments_of(kind)):
        raise UserError(f"{name} has no option {', '.join(unknown)}.")
    if parsed.root and not Path(parsed.root).is_dir():
        raise UserError(f"there is no folder {parsed.root}.")
    started = time.perf_counter()
    if own:  # such as encoders, which are built as a run builds them
        from xmodal.data.module import CrossModalDataModule

        path = f"{kind.__module__}.{kind.__qualname__}"
        given = {**own, **given, **({"root": parsed.root} if parsed.root else {})}
        module = built(CrossModalDataModule, {"class_path": path, "init_args": given})
        module.prepare_data()
    else:
        module = kind.prepare(parsed.root, **given)
    for key, value in module.describe().items():
        sys.stdout.write(f"{key}: {value}\n")
    folder = getattr(module, "folder", module.root)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    sys.stdout.write(
        f"image features {module.image_dim}-d, text features {module.text_dim}-d; {size / 2**20:.0f} MiB in {folder}; "
        f"{time.perf_counter() - started:.0f} s\n"
    )
    return 0
