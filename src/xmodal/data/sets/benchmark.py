"""What the benchmarks of the field share: forms of the files, named protocols, frozen encoders, and the run record."""

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar, cast

from xmodal.data.readers import dialects
from xmodal.data.readers.files import Forms, expected
from xmodal.data.readers.release import Release
from xmodal.data.recipes import Cut, Recipe
from xmodal.data.sets.protocols import ours
from xmodal.data.sets.released import Released
from xmodal.errors import UserError

ORIGINAL = "original"


class Benchmark(Released):
    """A dataset as its original release or in one of the dialects in circulation, found out from the files' keys.

    A dataset says which files each form has (`forms`), where they come from (`origin`), its protocols (`recipes`, a row
    of `xmodal.data.sets.protocols`; the first is the default) and how its original release is read (`original`).

    Args:
        protocol: which pairs are queries, training pairs and database; `xmodal datasets` lists the names. `xmodal` is
            ours: a seeded permutation, with `query` and `train`.
        dialect: the form of the files, where the folder holds several: `original` or a name of
            `xmodal.data.readers.dialects.DIALECTS`.
        query: number of queries of protocol `xmodal`; default: as the dataset's first other protocol.
        train: number of training pairs of protocol `xmodal`, the same way.
        val: number of validation pairs, cut out of the training pairs where the release brings none.
    """

    forms: ClassVar[Forms]
    origin: ClassVar[str]
    recipes: ClassVar[Mapping[str, Recipe]]
    num_classes: ClassVar[int | None] = None
    label_order: ClassVar[tuple[str, ...] | None] = None

    def __init__(
        self,
        protocol: str | None = None,
        dialect: str | None = None,
        query: int | None = None,
        train: int | None = None,
        val: int = 500,
        **kwargs: Any,  # noqa: ANN401 - the arguments of the classes above, read from their signatures
    ) -> None:
        super().__init__(**kwargs)
        self.protocol, self.dialect = protocol or next(iter(self.recipes)), dialect
        self.query, self.train, self.val = query, train, val
        if dialect not in (None, ORIGINAL, *dialects.DIALECTS):
            raise UserError(f"data.dialect is {dialect!r}; there are: {', '.join((ORIGINAL, *dialects.DIALECTS))}.")
        if self.protocol != "xmodal" and not (query is None and train is None):
            raise UserError(f"data.query and data.train belong to protocol xmodal; {self.protocol} fixes them.")
        _ = self.recipe

    @abstractmethod
    def original(self) -> Release | None:
        """Read the original release; None where its files are not in `root`."""

    def file_match(self) -> str:
        """Part of a file's name that chooses among files with the same keys."""
        return ""

    @property
    def validation(self) -> int:
        """See `Released`."""
        return self.val

    @property
    def recipe(self) -> Recipe:
        """The protocol.

        Raises:
            UserError: there is no such protocol.
        """
        if self.protocol not in self.recipes:
            names = ", ".join(self.recipes)
            raise UserError(f"data.protocol is {self.protocol!r}; the protocols of {self.name} are: {names}.")
        recipe = self.recipes[self.protocol]
        if isinstance(recipe, Cut) and not (self.query is None and self.train is None):
            query = recipe.query if self.query is None else self.query
            train = recipe.train if self.train is None else self.train
            return ours(query, train)
        return recipe

    @cached_property
    def release(self) -> Release:
        """The dataset as its files give it; pairs without a label are left out and counted.

        Raises:
            UserError: the files are missing or damaged, or there are several forms of them.
        """
        fits, there = dialects.detect(self.root, self.file_match())
        if self.dialect not in (None, ORIGINAL):
            if self.dialect not in fits:
                self._refuse(dialects.wanted(there))
            fits = [self.dialect]
        elif self.dialect == ORIGINAL:
            fits = []
        release = self.original() if self.dialect in (None, ORIGINAL) else None
        if len(fits) + (release is not None) > 1:
            forms = ", ".join([ORIGINAL] * (release is not None) + fits)
            raise UserError(f"{self.root} holds several forms of {self.name}: {forms}. Say which with --data.dialect.")
        if fits:
            release = dialects.read(self.root, fits[0], there, self.label_order, self.num_classes, self.max_corrupt)
        if release is None:
            self._refuse(dialects.wanted(there))
        found = self.arrange(cast("Release", release)).labelled()
        if not len(found.label):
            raise UserError(f"{self.name}: the files in {self.root} hold no pair that has all its parts.")
        return found

    def arrange(self, release: Release) -> Release:
        """What a dataset does to any form of its files, such as to read layers out of labels."""
        return release

    def _refuse(self, found: str) -> None:
        raise UserError(f"{self.name}: its files are not in {self.root}. {found} {expected(self.forms, self.origin)}")

    def describe(self) -> dict[str, Any]:
        """See `Released`; also the protocol's name."""
        return {**super().describe(), "protocol": self.protocol}
