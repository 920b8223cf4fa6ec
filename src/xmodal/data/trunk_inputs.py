"""What a data module gives trained trunks: raw inputs instead of features, and pictures from where they lie."""

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from lightning import LightningDataModule

from xmodal.batch import SIDES, Side
from xmodal.data.pairs import Pairs, Pictures
from xmodal.data.raw import Read, Reader, Resident, TrunkTraining
from xmodal.data.split import Index
from xmodal.data.store import PictureForms, PixelStore
from xmodal.encoders import Trunk
from xmodal.encoders.trunk import located
from xmodal.errors import UserError

Role = Literal["train", "val_query", "val_database", "query", "database"]
FITS = 0.3  # share of the free memory of a device that the pictures of a role may take


class TrunkInputs(LightningDataModule):
    """The part of a data module that serves trained trunks; idle where every trunk is frozen.

    Args:
        trunk: which trunks are trained inside the model, and how.
        tokens: whether their features hold tokens.
    """

    name: str

    def __init__(self, trunk: TrunkTraining, *, tokens: bool) -> None:
        super().__init__()
        self.trunk, self.tokens = trunk, tokens
        self._built: dict[Side, Trunk] = {}  # trunks that nobody has taken yet
        self._resident: dict[tuple[Role, str], Resident] = {}  # pictures that stay on the device

    @abstractmethod
    def pairs(self) -> Pairs:
        """Every pair of the dataset, encoded."""

    @cached_property
    def _pairs(self) -> Pairs:
        return self.pairs()

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    @cached_property
    def _readers(self) -> dict[Side, Reader]:
        for side in SIDES:
            if self.trunk.trains(side):
                self._built[side] = self._trunk(side)
        return {side: Reader.of(trunk, side) for side, trunk in self._built.items()}

    def _trunk(self, side: Side) -> Trunk:
        encoder = getattr(self, f"{side}_encoder", None)
        if encoder is None:
            raise UserError(f"data.trunk.sides is {self.trunk.sides!r}, but {self.name} has features only.")
        return self.trunk.build(encoder, tokens=self.tokens)

    def trunks(self) -> dict[Side, Trunk]:
        """The trunks that a model trains, by side, each time with their first weights; none where all are frozen."""
        return {side: self._built.pop(side) if side in self._built else self._trunk(side) for side in self._readers}

    def learnt(self) -> set[Path]:
        """Checkpoints of this suite that the encoders have their weights from; whose training pairs they know."""
        weights = [getattr(getattr(self, f"{side}_encoder", None), "weights", None) for side in SIDES]
        return {located(each) for each in weights if isinstance(each, str) and each.endswith(".ckpt")}

    @property
    def contents(self) -> Index | None:
        """(N,) a number of what each pair's picture holds, in any data; None where nobody replaces pictures."""
        return self._pairs.marks

    def _source(self, role: Role, rows: Index, form: str) -> tuple[Read, int]:
        """Where the pictures of a role come from, and how many worker processes fetch them."""
        workers = self.trunk.processes(self.trainer.world_size if self.trainer else 1)
        if not self._store:
            return self._forms.read, workers
        wide = {"wide": rows} if role == "train" and self.trunk.augments else {}
        self._store.fill({"whole": rows, **wide}, workers)
        if self._device.type != "cuda":
            return self._store.read, 0  # which only copies what is in the memory already
        if (role, form) not in self._resident:
            needed = len(np.unique(rows)) * int(np.prod(self._forms.shapes[form]))
            free, _ = torch.cuda.mem_get_info(self._device)
            if needed > FITS * free:
                return self._store.read, min(workers, 4)
            self._resident[role, form] = Resident(self._store.read, form, rows, self._device)
        return self._resident[role, form].read, 0

    @cached_property
    def _forms(self) -> PictureForms:
        reader = self._readers["image"]
        return PictureForms(cast("Pictures", self._pairs.image), reader.transform, reader.view)

    @property
    def _store(self) -> PixelStore | None:
        """Decoded pictures on disk, for datasets that have them; None: they are decoded in every epoch."""
        return None
