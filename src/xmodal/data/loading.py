"""In-memory batches: the arrays lie on the device and a batch is one indexing operation there."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from xmodal.batch import Batch, single


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of one epoch of a run, below 2^32, as NumPy and Lightning want it.

    Args:
        seed: of the run, from 0.
        epoch: from 0.
    """
    plain = seed * 1_000_003 + epoch
    return plain if plain < 2**32 else int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])


class EpochSampler(Sampler[Tensor]):
    """Batches of positions, shuffled as a function of (seed, epoch) only, so that a resumed run sees the same order.

    Under DDP each rank takes every `world`-th pair of the same global batch, whatever their numbers: batches of the
    ranks may be one pair apart, and those of the last ranks empty. Nothing is padded or dropped.

    Args:
        size: number of pairs.
        batch_size: global batch size.
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
            generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
            order = torch.randperm(self.size, generator=generator)
        else:
            order = torch.arange(self.size)
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            yield order[start : start + self.batch_size][self.rank :: self.world]

    def __len__(self) -> int:
        return self.size // self.batch_size if self.drop_last else -(-self.size // self.batch_size)


class LabelSampler(Sampler[Tensor]):
    """P x K sampling: K pairs of each of P labels, so that every batch holds positives and negatives.

    Labels are drawn without repetition (all of them where there are fewer than P), pairs without repetition within a
    label; a pair that is drawn under two of its labels counts once. An epoch has as many batches as a shuffled one.
    Order and shards are those of `EpochSampler`.

    Args:
        label: (N, C) multi-hot.
        batch_size: global batch size; P is batch_size // per_label.
        per_label: K.
        seed: of the draws, with the epoch.
        rank: this process.
        world: number of processes.
    """

    def __init__(
        self, label: Tensor, batch_size: int, per_label: int, *, seed: int = 0, rank: int = 0, world: int = 1
    ) -> None:
        self.members = [column.nonzero()[:, 0] for column in label.T.cpu() if column.any()]
        self.labels, self.per_label = max(batch_size // per_label, 1), per_label
        self.batches = -(-len(label) // batch_size)
        self.seed, self.rank, self.world, self.epoch = seed, rank, world, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Tensor]:
        generator = torch.Generator().manual_seed(epoch_seed(self.seed, self.epoch))
        for _ in range(self.batches):
            drawn = []
            for label in torch.randperm(len(self.members), generator=generator)[: self.labels].tolist():
                members = self.members[label]
                drawn.append(members[torch.randperm(len(members), generator=generator)[: self.per_label]])
            yield torch.unique(torch.cat(drawn))[self.rank :: self.world]

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
        batch: Batch = take(self.whole, on_device_of(self.whole["label"], positions))
        return batch

    def __len__(self) -> int:
        return len(self.whole["label"])


def on_device_of(there: Tensor, some: Tensor) -> Tensor:
    """A tensor of the host where another lies; from pageable memory a copy would wait until the last step is done."""
    return some.pin_memory().to(there.device, non_blocking=True) if there.is_cuda else some


def in_memory_loader(whole: Batch, sampler: Sampler[Tensor]) -> DataLoader[Batch]:
    """Batches of a role that lies on the device."""
    return batch_loader(InMemory(whole), sampler)


class LateLoader(DataLoader[Batch]):
    """A loader that starts its workers with the first batch; without workers it does nothing but index.

    Lightning makes the iterator before it tells the sampler the epoch, and before it knows the epoch that a checkpoint
    resumes at; workers that start then would fetch the batches of epoch 0.
    """

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        if self.num_workers:
            yield from super().__iter__()
        else:  # the iterator of torch takes a fifth of the time of a batch
            yield from (self.dataset[positions] for positions in self.sampler)


def batch_loader(dataset: Dataset[Batch], sampler: Sampler[Tensor], workers: int = 0) -> DataLoader[Batch]:
    """A loader whose unit is a batch; its own generator keeps `iter()` from drawing from the global one.

    Args:
        dataset: gives a batch for positions.
        sampler: gives the positions of every batch.
        workers: processes that make batches, started anew for every epoch: they then know its number.
    """
    return LateLoader(
        dataset,
        batch_size=None,
        sampler=sampler,
        collate_fn=_same,
        num_workers=workers,
        pin_memory=workers > 0 and torch.cuda.is_available(),
        generator=torch.Generator(),
    )


def take(value: Any, positions: Tensor) -> Any:  # noqa: ANN401 - a batch is a tree of tensors
    """The rows at `positions` of every tensor of a batch; float16 as float32."""
    if isinstance(value, dict):
        return {key: take(part, positions) for key, part in value.items()}
    return single(value.index_select(0, positions))  # on a CPU four times as fast as value[positions]


def _same(batch: Any) -> Any:  # noqa: ANN401 - a collate function that has nothing to collate
    return batch
