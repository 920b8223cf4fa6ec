"""Your own data: a folder of pictures and a table that says what they show (`xmodal init data` writes the YAML)."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xmodal.checks import check_name
from xmodal.data.readers.checksums import table_hash
from xmodal.data.readers.files import Files, Photos
from xmodal.data.readers.listing import Listing, read_listing
from xmodal.data.readers.release import Release
from xmodal.data.readers.tables import table_folder
from xmodal.data.recipes import Drawn, Official, Recipe
from xmodal.data.sets.released import Released
from xmodal.errors import UserError
from xmodal.relevance import Rule

FEWEST = 20  # pairs; a split of fewer has single queries, and its scores say nothing


class Folder(Released):
    """Pictures in a folder (zips and tars included, in place) or inside the table, and their texts and labels.

    Args:
        table: CSV, TSV, JSON Lines, Parquet, COCO's JSON, or tar shards: a file, a folder of parts or a pattern.
        images: folder of the pictures; default: that of the table.
        name: of the dataset, in runs and tables.
        file: column of the pictures' names, the same way as the following; default: the usual name that is there.
        text: column of the texts: one, a list of several, or several rows of a picture.
        label: column of the classes, or several columns; without any, relevant is what shows the same picture.
        separator: between several classes in a cell.
        layers: between the layers of a class such as `animal/bird/owl`; relevant is then the same finest class.
        split: column of the roles train, val and test; without one, queries are drawn.
        ending: of the pictures' names, where the table leaves it out.
        database: `test`: the queries are searched in their own pairs; `train`: in all that are not queries.
        query: number of queries, where they are drawn; default: a fifth of the pairs, at most 2,000.
        val: number of validation pairs, where the table names none; default: a tenth of the others, at most 1,000.
        fewest: a label of fewer pairs is left out.
        relevance: see `CrossModalDataModule`; default: as said at `label` and `layers`.
        table_hash: of the table's content; commands fill it in, so that a configuration says which rows it is of.
    """

    name = "folder"
    twins = True
    labels_from = "label"

    def __init__(
        self,
        table: str,
        images: str | None = None,
        name: str = "folder",
        file: str | None = None,
        text: str | None = None,
        label: str | list[str] | None = None,
        separator: str | None = None,
        layers: str | None = None,
        split: str | None = None,
        ending: str = "",
        database: Literal["test", "train"] = "test",
        query: int | None = None,
        val: int | None = None,
        fewest: int = 2,
        relevance: Rule | None = None,
        table_hash: str | None = None,
        **kwargs: Any,  # noqa: ANN401 - the arguments of the classes above, read from their signatures
    ) -> None:
        check_name("data.name", name)
        for each, number, default in (("query", query, "a fifth of the pairs"), ("val", val, "a tenth of the others")):
            if number is not None and number < 1:
                raise UserError(f"data.{each} is {number}: give 1 or more, or leave it out for {default}.")
        if split and query is not None:
            raise UserError(f"data.query is {query}, and column {split!r} says which are the queries: leave one out.")
        self.name, self.table, self.table_hash = name, table, table_hash
        self.marks = [label] if isinstance(label, str) else label or []
        super().__init__(relevance=relevance or ("finest" if layers else "label" if self.marks else "group"), **kwargs)
        self.columns = {"file": file, "text": text, "separator": separator, "layers": layers or None}
        self.columns |= {"split": split, "ending": ending}
        self.images = images
        self.database, self.query, self.val, self.fewest = database, query, val, fewest

    @cached_property
    def listing(self) -> Listing:
        """What the table says.

        Raises:
            UserError: it is not the table of the configuration any more, or see `read_listing`.
        """
        if self.table_hash not in (None, here := table_hash(self.table)):
            raise UserError(
                f"the table {self.table} has changed since this configuration was made (data.table_hash "
                f"{self.table_hash}, not {here}): restore it, or train again."
            )
        return read_listing(self.table, label=self.marks, **self.columns)  # type: ignore[arg-type]

    @cached_property
    def release(self) -> Release:
        """The pairs of the table, without those that lack something.

        Raises:
            UserError: a column or the pictures are missing, there are too few pairs, or labels that tell nothing apart.
        """
        if self.images and not Path(self.images).is_dir():
            raise UserError(f"data.images is {self.images!r}: there is no such folder.")
        listing = self.listing
        label, names, rare = listing.multi_hot(self.fewest if listing.labels and not listing.layers else 1)
        notes: dict[str, object] = {**listing.left_out, **({"rare_labels_left_out": len(rare)} if rare else {})}
        if listing.labels is not None and (label.all() or not len(names)):
            raise UserError(
                f"every pair of {self.table} has the same labels ({', '.join(names)[:60] or 'none frequent enough'}): "
                "all is relevant to all, and nothing to be learnt. Name another column, or none."
            )
        roles: dict[str, Any] = {}
        if listing.splits is not None:
            which = np.array(listing.splits)
            roles = {role: np.flatnonzero(which == role) for role in np.unique(which)}
        release = Release(
            "table",
            Photos(Files(Path(self.images or table_folder(self.table))), listing.files, self.max_corrupt),
            listing.texts,
            label,
            names,
            image_rows=listing.rows,
            hierarchy=listing.hierarchy(),
            group=None if listing.labels else listing.rows,
            roles=roles,
            notes=notes,
        ).labelled()
        if len(release.label) < FEWEST:
            rows, usable = len(listing.texts), len(release.label)
            lost = (
                f", of {rows} with a picture and a text: the others have no label that is frequent enough"
                if usable < rows
                else ""
            )
            raise UserError(
                f"{self.table} has {usable} usable pairs{lost}: {FEWEST} are the fewest, some hundreds are sensible."
            )
        return release

    @property
    def recipe(self) -> Recipe:
        """The roles of the table, or queries that are drawn.

        Raises:
            UserError: the table's roles lack train or test, or number and roles of validation pairs are both given.
        """
        roles = self.release.roles
        if not roles:
            query = min(max(len(self.release.label) // 5, 1), 2000) if self.query is None else self.query
            if query >= len(self.release.label) - 2:
                raise UserError(f"data.query={query} of {len(self.release.label)} pairs: leave some to train on.")
            return Drawn(f"numpy.random.default_rng(0).permutation: {query:,} queries", query, self.database)
        if lacking := [role for role in ("train", "test") if role not in roles]:
            raise UserError(
                f"column {self.columns['split']!r} of {self.table} has no pair of {' and '.join(lacking)}: name them "
                "so, or leave data.split out, and queries are drawn."
            )
        if "val" in roles and self.val is not None:
            raise UserError(
                f"data.val is {self.val}, and column {self.columns['split']!r} says which are the validation pairs: "
                "leave one out."
            )
        return Official(f"column {self.columns['split']} of the table", "test" if self.database == "test" else "others")

    @property
    def validation(self) -> int:
        """See `Released`."""
        pool = len(self.release.roles.get("train", ())) or len(self.release.label) * 4 // 5
        return min(max(pool // 10, 1), 1000) if self.val is None else self.val
