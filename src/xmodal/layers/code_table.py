"""Tables of the last output for every training pair, which DCMH and its descendants train against."""

import torch
from torch import Tensor, nn

from xmodal.batch import Batch
from xmodal.errors import UserError


class CodeTables(nn.Module):
    """One (n, K) table per name, N(0, 1) at the start; they come back from a checkpoint.

    `open` gives the tables the training pairs; until then they only hold their start.

    Args:
        names: of the tables.
        size: number n of training pairs.
        bits: K.
    """

    index: Tensor
    label: Tensor

    def __init__(self, names: tuple[str, ...], size: int, bits: int) -> None:
        super().__init__()
        self.size = size
        for name in names:
            self.register_buffer(name, torch.randn(size, bits))
        for name in ("index", "label"):  # of the training set, in the order of the rows; not part of a checkpoint
            self.register_buffer(name, torch.zeros(0), persistent=False)

    def open(self, train: Batch) -> None:
        """Lay the rows out by the training pairs' positions in the dataset.

        Raises:
            UserError: a pair is named more than once, of whose rows one alone would be written.
        """
        self.index, order = train["index"].sort()
        if again := len(self.index) - len(torch.unique(self.index)):
            raise UserError(
                f"{again} training pairs are named more than once, and this method keeps one code for each pair: let "
                "the split name each of them once (data.per_label draws pairs of rare labels more often)."
            )
        self.label = train["label"][order]

    def rows(self, index: Tensor) -> Tensor:
        """(B,) rows of the pairs at these positions of the dataset."""
        return torch.searchsorted(self.index, index)

    def table(self, name: str) -> Tensor:
        """(n, K) table of a name."""
        return self.get_buffer(name)

    def store(self, name: str, rows: Tensor, relaxed: Tensor) -> None:
        """Overwrite rows; under DDP give the gathered rows and outputs, so that every process stores the same."""
        table = self.get_buffer(name)
        table[rows] = relaxed.detach().to(table.dtype)
