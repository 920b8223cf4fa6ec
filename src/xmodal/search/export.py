"""What a run encoded, in files that other programs read: all roles, with labels and positions."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from xmodal.batch import SIDES
from xmodal.data.trunk_inputs import Role
from xmodal.errors import UserError
from xmodal.files import write_atomically
from xmodal.relevance import Relevance
from xmodal.search import engine
from xmodal.search.engine import Array
from xmodal.search.trained import Trained

ROLES: tuple[Role, ...] = ("train", "val_query", "val_database", "query", "database")
MAT: dict[Role, str] = {"query": "q", "database": "r"}  # of the field's own scripts
Encoded = dict[Role, tuple[dict[Any, Array], Relevance]]


def encode_roles(trained: Trained) -> Encoded:
    """Codes or embeddings of both sides of every role, and what its pairs are judged by."""
    return {role: trained.role(role) for role in ROLES}


def plain(trained: Trained, codes: Array) -> Array:
    """Codes in {-1, +1} as int8, or embeddings as they are."""
    if not trained.bits:
        return codes
    bits = np.unpackbits(codes, axis=1, count=trained.bits, bitorder="little")
    return bits.astype(np.int8) * 2 - 1


def to_npz(trained: Trained, encoded: Encoded, path: Path) -> None:
    """`<role>_image`, `_text`, `_label`, `_index` and the like by role, as `xmodal evaluate` reads them.

    Codes are there a second time as `<role>_image_packed`: bit k of byte j is column 8 j + k.
    """
    arrays: dict[str, Any] = {}
    for role, (sides, judged) in encoded.items():
        for side in SIDES:
            arrays[f"{role}_{side}"] = plain(trained, sides[side])
            if trained.bits:
                arrays[f"{role}_{side}_packed"] = sides[side]
        arrays |= {f"{role}_{name}": column.numpy() for name, column in judged.columns().items()}
        arrays[f"{role}_label"] = arrays[f"{role}_label"].astype(bool)
    write_atomically(path, lambda file: np.savez_compressed(file, **arrays))


def to_mat(trained: Trained, encoded: Encoded, path: Path) -> None:
    """`q_img`, `q_txt`, `r_img`, `r_txt`, `q_l`, `r_l`, and what `xmodal evaluate` reads of relevance, as MATLAB 5.

    All numbers are single precision: scripts multiply the matrices, and products of small integers would overflow.
    """
    arrays: dict[str, Array] = {}
    for role, name in MAT.items():
        sides, judged = encoded[role]
        numbers = {
            "img": plain(trained, sides["image"]),
            "txt": plain(trained, sides["text"]),
            "l": judged.label.numpy(),
        }
        arrays |= {f"{name}_{part}": array.astype(np.float32) for part, array in numbers.items()}
        arrays |= {f"{role}_{each}": column.numpy() for each, column in judged.columns().items() if each != "label"}
    write_atomically(path, lambda file: savemat(file, arrays, do_compression=True))


def to_parquet(trained: Trained, encoded: Encoded, path: Path) -> None:
    """A row for each pair of each role: `role`, `index`, `image`, `text`, `label` (numbers of its labels).

    Also `hierarchy` (its class in each layer) and `group` (its picture), where they say what is relevant.
    Codes are binary, packed as in `to_npz`; embeddings are lists of float32.

    Raises:
        UserError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise UserError("Parquet is written by pyarrow: `pip install 'xmodal[export]'`.") from error
    parts = []
    for role, (sides, judged) in encoded.items():
        columns: dict[str, Any] = {"role": [role] * len(judged.index), "index": judged.index.numpy()}
        for side in SIDES:
            rows = sides[side]
            flat = pa.array([row.tobytes() for row in rows]) if trained.bits else pa.array(list(rows))
            columns[side] = flat
        label = judged.label.numpy()
        columns["label"] = [np.flatnonzero(row).astype(np.int32) for row in label] if label.ndim > 1 else label[:, None]
        columns |= {
            name: column.tolist() for name, column in judged.columns().items() if name in ("hierarchy", "group")
        }
        parts.append(pa.table(columns))
    about = {"bits": str(trained.bits), "bitorder": "little", "method": trained.method.name, "run": str(trained.folder)}
    table = pa.concat_tables(parts).replace_schema_metadata(about)
    write_atomically(path, lambda file: pq.write_table(table, file))


def to_faiss(trained: Trained, encoded: Encoded, folder: Path) -> None:
    """`<role>-<side>.faiss`, exact, whose ids are positions in the dataset; FAISS alone reads them."""
    library = engine.faiss()
    folder.mkdir(parents=True, exist_ok=True)
    for role, (sides, judged) in encoded.items():
        for side in SIDES:
            ids, chosen = (each.numpy() for each in judged.items(side))
            codes = np.ascontiguousarray(sides[side][chosen])
            own = engine.build("flat", codes[:0], progress=False)
            index = (library.IndexBinaryIDMap2 if trained.bits else library.IndexIDMap2)(own)
            index.add_with_ids(codes, ids)
            engine.write(index, folder / f"{role}-{side}.faiss")
