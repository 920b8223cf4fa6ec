"""`xmodal demo [RUN|INDEX ...]`: a page on this machine that searches what runs have encoded."""

import socket
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from xmodal import arguments, paths
from xmodal.errors import UserError
from xmodal.experiment import configuration
from xmodal.run import train, whole

if TYPE_CHECKING:  # importing it takes seconds
    from xmodal.search import Index

FIRST = ("--model.bits=16", "--model.bits=64")  # of the runs that a fresh checkout trains
MOST = 20  # runs that the page offers


def main(argv: Sequence[str]) -> int:
    """Run the command until it is interrupted; the address is the first line on stdout."""
    options = arguments.parser("demo").parse_args(list(argv))
    port = whole("PORT", options.port, 0, 65535)
    try:
        import uvicorn

        from xmodal.search.web import Shelf, app
    except ImportError as error:
        raise UserError(f"{error.name} is not installed: run `make setup`, or `pip install 'xmodal[web]'`.") from error
    sources = [Path(each) for each in options.sources] or _runs() or _train()
    shelves = {_name(source): Shelf(partial(_opened, source)) for source in sources}
    listener = _listen(port)
    sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    for shelf in list(shelves.values())[:1]:  # a bad first one is said here
        shelf.about()
    uvicorn.Server(uvicorn.Config(app(shelves), log_level="warning")).run(sockets=[listener])
    return 0


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)  # from now on who asks waits, and is not refused
    except OSError as error:
        listener.close()
        raise UserError(f"port {port} cannot be had ({error.strerror}): give another one with --port.") from error
    return listener


def _opened(source: Path) -> "Index":
    """The index itself, or that of a run, built where it is missing or older than the run."""
    from xmodal.search import Index, Trained, build_index

    if (source / "index.json").is_file():
        return Index.open(source)
    trained = Trained.open(source)
    out = trained.folder / "index" / trained.data.name
    if (out / "index.json").is_file():
        index = Index.open(out, trained.folder)
        if index.about["checkpoint"] == trained.checkpoint:
            return index
    return build_index(trained, out)


def _name(source: Path) -> str:
    """What the page calls it: the path below `runs/`, without the parts that say nothing."""
    path = source.resolve()
    below = path.relative_to(paths.runs().resolve()) if path.is_relative_to(paths.runs().resolve()) else path
    return " ".join(part for part in below.parts if part not in ("/", "index")) or str(path)


def _runs() -> list[Path]:
    """Runs at hand that kept a checkpoint and read pictures; the one of each method and size that validates best."""
    from xmodal.records.setups import collect

    found: dict[tuple[str, str, int], tuple[float, Path]] = {}
    for record in collect(paths.runs())[0]:
        folder = Path(record["path"]).parent
        if not (folder / "checkpoints" / "best.ckpt").is_file() or record["dataset"] == "wikipedia":
            continue
        key, score = (record["method"], record["dataset"], record["size"]), record["metrics"].get("val/map", 0.0)
        found[key] = max(found.get(key, (-1.0, folder)), (score, folder))
    return [folder for _, folder in sorted(found.values(), reverse=True)[:MOST]]


def _train() -> list[Path]:
    sys.stderr.write("no run is at hand: DCMHT is trained on the embedded data, at 16 and 64 bits, once\n")
    return [train([*configuration("dcmht", "emoji"), bits]).parent for bits in FIRST]
