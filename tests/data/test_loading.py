import numpy as np
import pytest
import torch

from xmodal.data import CrossModalDataModule, Pairs, make_split
from xmodal.data.loading import EpochSampler, LabelSampler, epoch_seed, in_memory_loader


def positions(**arguments):
    return torch.cat(list(EpochSampler(23, 4, **arguments))).tolist()


def test_evaluation_sees_every_pair_once_in_order():
    assert positions() == list(range(23))


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_ranks_share_the_pairs_without_padding(world):
    shards = [positions(shuffle=True, rank=rank, world=world) for rank in range(world)]
    assert sorted(position for shard in shards for position in shard) == list(range(23))


def test_a_global_batch_is_the_same_pairs_on_any_number_of_ranks():
    alone = list(EpochSampler(23, 4, shuffle=True))
    shards = [list(EpochSampler(23, 4, shuffle=True, rank=rank, world=2)) for rank in range(2)]
    for whole, *parts in zip(alone, *shards, strict=True):
        assert sorted(whole.tolist()) == sorted(torch.cat(parts).tolist())


def test_order_is_a_function_of_seed_and_epoch():
    sampler, again = EpochSampler(23, 4, seed=1, shuffle=True), EpochSampler(23, 4, seed=1, shuffle=True)
    first = torch.cat(list(sampler)).tolist()
    sampler.set_epoch(1)
    second = torch.cat(list(sampler)).tolist()
    again.set_epoch(1)
    assert torch.cat(list(again)).tolist() == second != first
    assert positions(seed=2, shuffle=True) != first


@pytest.mark.parametrize("seed", [4294, 4295, 12345, 20240101, 2**31 - 1, 2**63 - 1])
def test_any_seed_gives_each_epoch_one_of_its_own(seed):
    drawn = {epoch_seed(seed + step, epoch) for step in (0, 1) for epoch in range(500)}
    assert len(drawn) == 1000
    assert all(0 <= each < 2**32 for each in drawn)
    assert positions(seed=seed, shuffle=True) != positions(seed=seed + 1, shuffle=True)


def test_small_seeds_draw_what_they_drew():
    assert epoch_seed(3, 7) == 3_000_016


def test_drop_last_leaves_full_batches():
    sampler = EpochSampler(23, 4, drop_last=True)
    assert [len(batch) for batch in sampler] == [4] * 5
    assert len(sampler) == 5


def test_batches_are_the_pairs_at_the_positions():
    whole = {"image": {"pooled": torch.arange(23.0)[:, None]}, "label": torch.ones(23, 1), "index": torch.arange(23)}
    for batch in in_memory_loader(whole, EpochSampler(23, 4, shuffle=True)):
        assert torch.equal(batch["image"]["pooled"][:, 0], batch["index"].float())


def test_what_is_kept_as_float16_leaves_as_float32():
    whole = {"text": {"tokens": torch.randn(9, 2, 3).half(), "mask": torch.ones(9, 2, dtype=torch.bool)}}
    whole |= {"label": torch.ones(9, 1), "index": torch.arange(9)}
    (batch,) = in_memory_loader(whole, EpochSampler(9, 9))
    assert torch.equal(batch["text"]["tokens"], whole["text"]["tokens"].float())
    assert batch["text"]["mask"].dtype == torch.bool
    assert batch["index"].dtype == torch.int64


def test_iterating_leaves_the_global_generator_alone():
    whole = {"label": torch.ones(23, 1)}
    before = torch.get_rng_state()
    list(in_memory_loader(whole, EpochSampler(23, 4, shuffle=True)))
    assert torch.equal(torch.get_rng_state(), before)


LABEL = torch.eye(4).repeat(6, 1)[:23]  # 23 pairs of 4 labels


def test_p_by_k_batches_hold_k_pairs_of_each_label():
    sampler = LabelSampler(LABEL, 8, 4)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 3
    for batch in batches:
        assert sorted(LABEL[batch].sum(0).tolist()) == [0, 0, 4, 4]


def test_p_by_k_counts_a_pair_of_two_labels_once():
    label = torch.ones(6, 2)
    for batch in LabelSampler(label, 12, 6):
        assert batch.tolist() == list(range(6))


@pytest.mark.parametrize("world", [2, 3, 16])
def test_p_by_k_is_the_same_on_any_number_of_ranks(world):
    shards = [list(LabelSampler(LABEL, 8, 4, rank=rank, world=world)) for rank in range(world)]
    for whole, *parts in zip(LabelSampler(LABEL, 8, 4), *shards, strict=True):
        assert sorted(whole.tolist()) == sorted(torch.cat(parts).tolist())


def test_p_by_k_is_a_function_of_seed_and_epoch():
    sampler, again = LabelSampler(LABEL, 8, 4, seed=1), LabelSampler(LABEL, 8, 4, seed=1)
    first = torch.cat(list(sampler)).tolist()
    sampler.set_epoch(1)
    again.set_epoch(1)
    assert torch.cat(list(sampler)).tolist() == torch.cat(list(again)).tolist() != first


class Brought(CrossModalDataModule):
    """Arrays of one's own, whose tokens need not be what the pooled features were made of."""

    name = "brought"

    def __init__(self, token: float = 0, **kwargs):
        super().__init__(**kwargs)
        self.token = token

    def split(self):
        return make_split(np.arange(40), np.arange(40, 60), 10, seed=0, database="test")

    def pairs(self):
        features = {"pooled": np.ones((60, 2), np.float32), "tokens": np.full((60, 3, 2), self.token, np.float32)}
        return Pairs(features, features, np.eye(4, dtype=np.uint8)[np.arange(60) % 4], tuple("abcd"))


@pytest.mark.parametrize("tokens", [False, True])
def test_other_tokens_are_other_inputs_where_they_are_read(tmp_path, tokens):
    said = [Brought(value, root=str(tmp_path), tokens=tokens).describe()["inputs_hash"] for value in (0, 1)]
    assert (said[0] != said[1]) == tokens
