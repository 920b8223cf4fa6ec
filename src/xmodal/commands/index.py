"""`xmodal index RUN`: encode a dataset or a folder of pictures with a trained run, and make it searchable."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from xmodal.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Run the command; the last line on stdout is the folder of the index."""
    parser = argparse.ArgumentParser(
        prog="xmodal index",
        description="Encode the database of a dataset, or a folder of pictures, with a trained run, and index it. "
        "A killed encoding goes on where it was.",
    )
    parser.add_argument("run", metavar="RUN", help="folder of a run, such as runs/dmsf/emoji/64/seed0")
    parser.add_argument("--data", metavar="NAME", help="a dataset; default: the one that the run was trained on")
    parser.add_argument("--folder", type=Path, metavar="PICTURES", help="a folder of pictures instead")
    parser.add_argument("--captions", type=Path, metavar="FILE.csv", help="a table of their file names and texts")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: in the run's folder, index/<what it holds>")
    parser.add_argument(
        "--kind",
        default="flat",
        choices=("flat", "ivf", "hnsw", "multihash"),
        help="flat (exact) or an approximate one: docs/search.md says when",
    )
    options = parser.parse_args(list(argv))
    if options.data and options.folder:
        raise UserError("give --data or --folder, not both.")
    if options.captions and not options.folder:
        raise UserError("--captions says what the pictures of --folder show: name that folder.")
    from xmodal.commands.datasets import data_of
    from xmodal.search import OwnPictures, Trained, build_index

    started = time.perf_counter()
    source: Any = OwnPictures.read(options.folder, options.captions) if options.folder else None
    trained = Trained.open(options.run)
    name, kind, given = data_of(options.data) if options.data else (trained.data.name, None, {})
    if kind and not trained.reads(kind, given):
        source = trained.other(kind, **given)
    out = options.out or trained.folder / "index" / (options.folder.resolve().name if options.folder else name)
    index = build_index(trained, out, source, options.kind, given)
    counts = " and ".join(f"{len(ids):,} {side}s" for side, ids in index.ids.items())
    unit = f"codes of {index.bits} bits" if index.bits else "embeddings"
    sys.stderr.write(f"{counts} as {unit}, {options.kind}, in {time.perf_counter() - started:.1f} s\n")
    sys.stdout.write(f"{out}\n")
    return 0
