"""Building an index: encoding goes on where it was killed, and the folder appears whole or not at all."""

import glob
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
from filelock import FileLock

from xmodal.batch import SIDES, Side
from xmodal.data.module import CrossModalDataModule
from xmodal.data.readers.checksums import fingerprint
from xmodal.data.readers.files import Entry
from xmodal.encoders import DECODING, encoded
from xmodal.errors import UserError
from xmodal.search import engine
from xmodal.search.engine import Array, Kind
from xmodal.search.index import FORM, Index
from xmodal.search.sources import OwnPictures
from xmodal.search.strings import Strings
from xmodal.search.trained import Trained

SPARE = 64 * 2**20  # bytes of the disk that stay free
LINK = 2 * 4 * engine.NEIGHBOURS  # bytes of the links of a node of HNSW
Shelf = tuple[Array, Array, Sequence[str]]  # ids, codes or embeddings, names


def indexed(folder: Path) -> dict[str, Any]:
    """What the index in a folder is of, as its `source` says; empty where there is none that tells."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return dict(json.loads((folder / "index.json").read_text())["source"])
    return {}


def build_index(
    trained: Trained,
    out: Path,
    source: CrossModalDataModule | OwnPictures | None = None,
    kind: Kind = "flat",
    arguments: Mapping[str, Any] | None = None,
) -> Index:
    """Encode and index; an index that lay there is replaced once the new one is whole.

    Args:
        trained: the run that encodes.
        out: the folder to make.
        source: a folder, or another dataset (`Trained.other`), of which the database is indexed; None: the run's own.
        kind: see `engine.build`.
        arguments: of another dataset, from which a search builds it again to show its pictures.

    Raises:
        UserError: nothing can be encoded, the folder holds something else, or the disk is full.
    """
    if out.exists() and not (out / "index.json").is_file():
        raise UserError(f"{out} exists and is no index: name another folder with --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(out.parent / f".{out.name}.lock"):
            _build(trained, out, source, kind, arguments or {})
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror or error}. Make room or make it writable.") from error
    return Index.open(out, trained.folder)


def _build(
    trained: Trained,
    out: Path,
    source: CrossModalDataModule | OwnPictures | None,
    kind: Kind,
    arguments: Mapping[str, Any],
) -> None:
    halfway = out.parent / f".{out.name}.encoding"
    columns: dict[str, Any] = {}
    if isinstance(source, OwnPictures):
        shelves = _folder(trained, source, halfway)
        about: dict[str, Any] = {"folder": str(source.root.resolve())}
    else:
        shelves, columns = _dataset(trained, source)
        about = {"dataset": (source or trained.data).name, "role": "database"}
        if source is not None:
            path = f"{type(source).__module__}.{type(source).__qualname__}"
            about |= {"class_path": path, "init_args": dict(arguments)}
    links = LINK if kind == "hnsw" else 16
    needed = sum(codes.nbytes + links * len(codes) + sum(map(len, names)) for _, codes, names in shelves.values())
    free = shutil.disk_usage(out.parent).free - SPARE
    if needed > free:
        raise UserError(
            f"the index needs {needed / 2**20:,.0f} MiB in {out.parent}, and {max(free, 0) / 2**20:,.0f} are free: "
            "make room, or name another folder with --out."
        )
    for leftover in out.parent.glob(
        f".{glob.escape(out.name)}.{'[0-9a-f]' * 32}.partial"
    ):  # of a killed build; the lock says that nobody writes
        shutil.rmtree(leftover, ignore_errors=True)
    partial = out.parent / f".{out.name}.{uuid4().hex}.partial"
    try:
        sides = {side: _shelve(partial / side, kind, *shelf) for side, shelf in shelves.items()}
        if columns:
            np.savez_compressed(partial / "relevance.npz", **columns)
        (partial / "index.json").write_text(json.dumps({**identity(trained, kind, about), "sides": sides}, indent=1))
        aside = out.with_name(f".{out.name}.{uuid4().hex}.partial")
        if out.exists():
            out.replace(aside)
        try:
            partial.replace(out)
        except OSError:
            if aside.exists():
                aside.replace(out)
            raise
        shutil.rmtree(aside, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    shutil.rmtree(halfway, ignore_errors=True)


def identity(trained: Trained, kind: Kind, source: dict[str, Any]) -> dict[str, Any]:
    """What `index.json` says of where an index comes from."""
    return {
        "form": FORM,
        "kind": kind,
        "bits": trained.bits,
        "method": trained.method.name,
        "run": str(trained.folder.resolve()),
        "checkpoint": trained.checkpoint,
        "config_sha256": hashlib.sha256((trained.folder / "config.yaml").read_bytes()).hexdigest(),
        "encoders": trained.encoder_keys(),
        "vocabulary": trained.words(),
        "source": source,
        "versions": {"faiss": str(engine.faiss().__version__)}
        | {name: version(name) for name in ("xmodal", "torch", "numpy")},
    }


def _shelve(folder: Path, kind: Kind, ids: Array, codes: Array, names: Sequence[str]) -> dict[str, Any]:
    folder.mkdir(parents=True)
    engine.write(engine.build(kind, codes), folder / "index.faiss")
    np.save(folder / "ids.npy", np.asarray(ids, np.int64))
    Strings.write(folder, names)
    return {"count": len(ids), "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir())}}


def _dataset(trained: Trained, data: CrossModalDataModule | None) -> tuple[dict[Side, Shelf], dict[str, Any]]:
    """The database of a dataset: each of its texts, and each of its pictures once."""
    codes, judged = trained.role("database", data)
    data, shelves = data or trained.data, dict[Side, Shelf]()
    for side in SIDES:
        ids, chosen = (each.numpy() for each in judged.items(side))
        shelves[side] = ids, codes[side][chosen], [data.caption(int(each)) for each in ids]
    return shelves, {name: column.numpy() for name, column in judged.columns().items()}


def _folder(trained: Trained, folder: OwnPictures, halfway: Path) -> dict[Side, Shelf]:
    """The pictures of a folder that can be read, and the texts of its table."""
    photos, run = folder.photos(), {"checkpoint": trained.checkpoint, **trained.encoder_keys()}
    key = {**run, "pictures": fingerprint(photos, halfway), "decoding": DECODING}
    found = _encoded(halfway, trained, "image", key, photos)
    kept = np.flatnonzero(~found["missing"])
    if left := len(photos) - len(kept):
        sys.stderr.write(f"{left} of {len(photos)} pictures could not be read, and are not in the index\n")
    names = [cast("Entry", photos.found[row]).name for row in kept.tolist()]  # where it lies, whatever a table calls it
    shelves: dict[Side, Shelf] = {"image": (kept, found["code"][kept], names)}
    if folder.texts:
        texts = _encoded(halfway, trained, "text", {**run, "texts": list(folder.texts)}, folder.texts)
        shelves["text"] = np.arange(len(folder.texts)), texts["code"], folder.texts
    return shelves


def _encoded(folder: Path, trained: Trained, side: Side, key: dict[str, Any], items: Any) -> dict[str, Array]:  # noqa: ANN401
    def opened() -> Callable[[list[Any]], dict[str, Array]]:
        return lambda some: {"code": trained.encode(side, some)}

    found: dict[str, Array] = encoded(folder, side, key, items, opened, chunk=trained.encoder(side).batch_size)
    return found
