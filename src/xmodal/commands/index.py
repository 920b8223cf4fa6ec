"""`xmodal index RUN`: encode a dataset or a folder of pictures with a trained run, and make it searchable."""

import sys
import time
from collections.abc import Sequence
from typing import Any

from xmodal import arguments
from xmodal.errors import UserError


def main(argv: Sequence[str]) -> int:
    """Run the command; the last line on stdout is the folder of the index."""
    options = arguments.parser("index").parse_args(list(argv))
    if options.data and options.folder:
        raise UserError("give --data or --folder, not both.")
    if options.captions and not options.folder:
        raise UserError("--captions says what the pictures of --folder show: name that folder.")
    from xmodal.commands.datasets import data_of
    from xmodal.data.readers.checksums import table_hash
    from xmodal.search import OwnPictures, Trained, build_index
    from xmodal.search.build import indexed

    started = time.perf_counter()
    source: Any = OwnPictures.read(options.folder, options.captions) if options.folder else None
    trained = Trained.open(options.run)
    name, kind, given = data_of(options.data) if options.data else (trained.data.name, None, {})
    if "table" in given:
        given["table_hash"] = table_hash(given["table"])  # a table that has changed is other data
    if kind and not trained.reads(kind, given):
        source = trained.other(kind, **given)
    out = options.out or trained.folder / "index" / (options.folder.resolve().name if options.folder else name)
    folder = str(options.folder.resolve()) if options.folder else None
    if not options.out and (held := indexed(out)) and held.get("folder") != folder:
        of = held.get("folder") or held.get("dataset")
        raise UserError(f"{out} is an index of {of}: delete it, or name another folder with --out.")
    index = build_index(trained, out, source, options.kind, given)
    counts = " and ".join(f"{len(ids):,} {side}s" for side, ids in index.ids.items())
    unit = f"codes of {index.bits} bits" if index.bits else "embeddings"
    sys.stderr.write(f"{counts} as {unit}, {options.kind}, in {time.perf_counter() - started:.1f} s\n")
    sys.stdout.write(f"{out}\n")
    return 0
