"""In-memory batches: the arrays lie on the device and a batch is one indexing operation there."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from xmodal.batch import Batch
from xmodal.errors import UserError


class EpochSampler(Sampler[Tensor]):
    """Batches of positions, shuffled as a function of (seed, epoch) only, so that a resumed run sees the same order.

    Under DDP each rank takes every `world`-th position of the same permutation; a global batch is the same set of pairs
    on any number of ranks. Evaluation (`shuffle=False`) is never padded; training drops nothing but may leave the last
    batches of the ranks one pair apart.

    Args:
        size: number of pairs.
        batch_size: global batch size, divided by `world`.
        seed: of the shuffle.
        shuffle: whether to shuffle, anew every epoch.
        drop_last: leave out a last batch that is not full.
        rank: this process.
        world: number of processes.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int = 0,
        shuffle: bool = False,
        drop_last: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.size, self.batch_size, self.seed, self.shuffle, self.drop_last = size, batch_size, seed, shuffle, drop_last
        self.rank, self.world, self.epoch = rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
            order = torch.randperm(self.size, generator=generator)
        else:
            order = torch.arange(self.size)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size][self.rank :: self.world]

    def __len__(self) -> int:
        return self.size // self.batch_size if self.drop_last else -(-self.size // self.batch_size)


class ClassSampler(Sampler[Tensor]):
    """Batches of P classes with K pairs each, for losses that need positives in every batch.

    The classes and their pairs are drawn anew for every batch, as a function of (seed, epoch) only; a class with fewer
    than K pairs gives some of them again. Under DDP each rank takes every `world`-th position of the same batch.

    Args:
        label: (N, C) multi-hot; a pair with several labels may be drawn for any of them.
        classes: P.
        batch_size: P x K, divided by `world`.
        seed: of the draws.
        rank: this process.
        world: number of processes.

    Raises:
        UserError: P does not divide the batch, or there are fewer classes.
    """

    def __init__(
        self, label: Tensor, classes: int, batch_size: int, *, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.members = [found for column in label.cpu().T if len(found := column.nonzero()[:, 0])]
        if batch_size % classes or not 1 < classes <= len(self.members):
            raise UserError(
                f"data.classes_per_batch is {classes}: give a divisor of batch_size={batch_size}, from 2 to the number "
                f"of classes, {len(self.members)}."
            )
        self.classes, self.each, self.batches = classes, batch_size // classes, -(-len(label) // batch_size)
        self.seed, self.rank, self.world, self.epoch = seed, rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        for _ in range(self.batches):
            chosen = torch.randperm(len(self.members), generator=generator)[: self.classes]
            rows = torch.cat([self._draw(self.members[k], generator) for k in chosen.tolist()])
            yield rows[self.rank :: self.world]

    def _draw(self, members: Tensor, generator: torch.Generator) -> Tensor:
        order = torch.randperm(len(members), generator=generator)
        return members[order.repeat(-(-self.each // len(members)))[: self.each]]

    def __len__(self) -> int:
        return self.batches


class InMemory(Dataset[Batch]):
    """A whole role (`train`, `query`, ...) as one batch; indexing with positions gives a batch.

    Args:
        whole: every pair of the role, on the device that computes.
    """

    def __init__(self, whole: Batch) -> None:
        self.whole = whole

    def __getitem__(self, positions: Tensor) -> Batch:
        batch: Batch = _take(self.whole, positions.to(self.whole["label"].device))
        return batch

    def __len__(self) -> int:
        return len(self.whole["label"])


def in_memory_loader(whole: Batch, sampler: Sampler[Tensor]) -> "DataLoader[Batch]":
    """A loader whose unit is a batch; its own generator keeps `iter()` from drawing from the global one."""
    return DataLoader(InMemory(whole), batch_size=None, sampler=sampler, collate_fn=_same, generator=torch.Generator())


def _take(value: Any, positions: Tensor) -> Any:  # noqa: ANN401 - a batch is a tree of tensors
    if isinstance(value, dict):
        return {key: _take(part, positions) for key, part in value.items()}
    return value.index_select(0, positions)  # on a CPU four times as fast as value[positions]


def _same(batch: Any) -> Any:  # noqa: ANN401 - a collate function that has nothing to collate
    return batch
