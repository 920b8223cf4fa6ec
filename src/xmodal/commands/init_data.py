"""`xmodal init data`: look at a folder of pictures and a table, say what is there, and write the dataset's YAML."""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from xmodal.errors import UserError
from xmodal.files import write_atomically

if TYPE_CHECKING:  # importing it takes seconds
    from xmodal.data.readers.files import Photos
    from xmodal.data.sets.folder import Folder

MISSING = ("na", "n/a", "nan", "none", "null")  # as other programs write an empty cell
ABSENT = (*MISSING, "0", "-1", "no", "false")  # of several columns, where others hold more than that
DECODED = 2000  # pictures that are tried, spread over all; the first encoding tries the others
SEPARATORS = ("|", ";", ",")


def write_data(options: argparse.Namespace) -> int:
    """Look, report, write `<name>.yaml` into the folder where the command runs.

    Raises:
        UserError: the table or the pictures cannot be used as a dataset; or there is such a file already.
    """
    from xmodal.data.sets.folder import Folder

    place = Path(options.pictures)
    table = options.table or options.pictures
    if options.table and not place.is_dir():
        raise UserError(f"there is no folder {place}.")
    name = options.name or re.sub(r"[^A-Za-z0-9._-]+", "-", place.resolve().stem).strip("-.") or "folder"
    target = Path(f"{name}.yaml")
    if target.exists():
        raise UserError(f"{target} is there already: give another --name, or delete it.")
    given = _columns(options, table, place)
    path = Path(table).resolve() if Path(table).exists() else Path(table).absolute()  # a pattern
    given = {"name": name, "table": str(path), **given, "database": options.database}
    if options.table:
        given["images"] = str(place.resolve())
    module = Folder(**given, max_corrupt=10**9)
    given |= _report(module)
    content = {"data": {"class_path": "Folder", "init_args": {key: value for key, value in given.items() if value}}}
    head = "# Written by `xmodal init data`; every command takes this file in the place of a dataset's name.\n"
    write_atomically(target, head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
    sys.stdout.write(f"written     {target}\n")
    first = "dcmh" if given["label"] else "cca"
    sys.stdout.write(f"next        xmodal train {first} {target} --{'bits' if given['label'] else 'dim'} 64\n")
    return 0


def _columns(options: argparse.Namespace, table: str, place: Path) -> dict[str, Any]:
    """Which column holds what: as given, or as found."""
    from xmodal.data.readers.files import Files
    from xmodal.data.readers.listing import NAMES, guess
    from xmodal.data.readers.tables import PICTURES, ROLES, read_table, table_folder

    columns = read_table(table)
    found: dict[str, Any] = {"file": options.file or guess(columns, "file", table)}
    found["text"] = options.text or guess(columns, "text", table)
    lower = {each.lower(): each for each in reversed(columns)}
    taken = set(found.values())
    usual = {
        kind: [lower[n] for n in NAMES[kind] if n in lower and lower[n] not in taken] for kind in ("label", "split")
    }
    label = None if options.label == "none" else options.label or next(iter(usual["label"]), None)
    found["label"] = label.split(",") if label and "," in label and label not in columns else label
    found["split"] = options.split
    for column in usual["split"][: 0 if options.split else 1]:
        words = {str(cell).strip().lower() for cell in set(columns[column])} - {*ROLES, "", "none"}
        if words:
            _say(
                "not taken",
                f"column {column!r} holds {min(words)[:40]!r}: the roles of a split are train, val and test",
            )
        else:
            found["split"] = column
    found["separator"], found["layers"] = options.separator, options.layers
    if label in columns:
        cells = [cell for cell in columns[label] if isinstance(cell, str) and cell.strip()]
        if not options.layers and cells and len({cell.count("/") for cell in cells}) == 1 and "/" in cells[0]:
            found["layers"] = "/"
        elif not options.separator and cells:  # lists need none
            found["separator"] = _separator(cells)
    if found["file"] in columns:
        files = Files(place if place.is_dir() else table_folder(table))
        names = [str(cell).strip() for cell in columns[found["file"]][:1000] if cell is not None]
        endings = ["", *(f".{each}" for each in PICTURES)]
        counts = {each: sum(map(bool, files.find_all([name + each for name in names]))) for each in endings}
        found["ending"] = max(endings, key=lambda each: counts[each])
    return found


def _separator(cells: Sequence[str]) -> str | None:
    """What separates classes: with it more pairs share a class, and few cells have none."""
    for each in SEPARATORS:
        parts = [part.strip() for cell in cells for part in cell.split(each)]
        shared = len(parts) / len(set(parts)) > len(cells) / len(set(cells))
        if sum(each in cell for cell in cells) > 0.1 * len(cells) and shared:
            return each
    return None


def _report(module: "Folder") -> dict[str, Any]:
    """Say what there is; what the YAML has to say of missing and corrupt pictures."""
    import numpy as np

    from xmodal.data.readers.files import Photos

    release, listing = module.release, module.listing
    photos = release.image
    if not isinstance(photos, Photos):
        raise TypeError
    pairs, columns = len(release.label), module.columns
    missing = [row for row, entry in enumerate(photos.found) if entry is None]
    there = np.flatnonzero([entry is not None for entry in photos.found])
    tried = there[np.unique(np.linspace(0, len(there) - 1, min(DECODED, len(there))).astype(int))]
    corrupt = [int(row) for row in tried if _broken(photos, int(row))]
    gone = [photos.names[row] for row in (*missing, *corrupt)]
    state = f"{len(photos):,}; {len(missing):,} missing, {len(corrupt):,} corrupt of {len(tried):,} opened"
    _say("pictures", state, gone)
    texts = f"{pairs / len(photos):.1f} texts a picture, column {columns['text']!r}"
    out = [f"{count:,} {key.removeprefix('left_out_').replace('_', ' ')}" for key, count in listing.left_out.items()]
    _say("pairs", f"{pairs:,}; {texts}" + (f"; left out: {', '.join(out)}" if out else ""))
    if listing.labels is None:
        _say("labels", "none: relevant to a picture are its own texts; supervised methods need a column, --label")
    else:
        counts = Counter(dict(zip(release.label_names, release.label.sum(0).tolist(), strict=True)))
        rare = listing.multi_hot(module.fewest)[2] if not listing.layers else {}
        how = "".join(f", {key} {columns[key]!r}" for key in ("separator", "layers") if columns[key])
        often = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(3))
        _say("labels", f"{len(counts):,} of column {', '.join(module.marks)}{how}; most often {often}")
        few = [name for name, count in counts.items() if count < 10]
        if few or rare:
            one = f"; {len(rare):,} with one pair only are left out" if rare else ""
            _say("rare", f"{len(few):,} labels have fewer than 10 pairs{one}", [*rare, *few])
        parts = {name: name.lower().rpartition(":") for name in counts}  # column and class, of several columns
        if words := [repr(name) for name, (_, colon, word) in parts.items() if word in (ABSENT if colon else MISSING)]:
            _say("not empty", f"{', '.join(words)}: a label as any other; a cell without one has to be empty")
    content = module.content
    split = module.recipe.split(release.label, release.roles, module.validation, content)
    sizes = {role: size for role, size in split.sizes().items() if role in ("train", "val_query", "query", "database")}
    source = f"column {columns['split']!r}" if columns["split"] else "no column: queries are drawn, seed 0"
    _say("split", f"{source}; " + ", ".join(f"{role} {size:,}" for role, size in sizes.items()))
    try:
        split.check(release.label, release.picture, by_picture=module.relevance == "group")
    except UserError as error:
        _say("refused", f"by every training: {error}")
    kept = pairs if release.picture is None else len(np.unique(release.picture))
    if content is not None and (twins := kept - len(np.unique(content))):
        _say(
            "duplicates",
            f"{twins:,} pictures have the content of another; {split.shared(content):,} queries show a picture that is "
            "trained on",
        )
    return {"max_corrupt": len(gone)}


def _broken(photos: "Photos", row: int) -> bool:
    from xmodal.encoders import open_picture

    entry = photos.found[row]
    try:
        open_picture(photos.files.read(entry) if entry else b"")
    except (UserError, OSError):
        return True
    return False


def _say(what: str, words: str, named: Sequence[str] = ()) -> None:
    """A line of the report, with the first of what it counts."""
    shown = f": {', '.join(named[:5])}{', ...' if len(named) > 5 else ''}" if named else ""
    sys.stdout.write(f"{what:11} {words}{shown}\n")
