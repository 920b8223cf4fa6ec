import pytest
import torch

from xmodal.data.loading import ClassSampler, EpochSampler, in_memory_loader
from xmodal.errors import UserError


def positions(**arguments):
    return torch.cat(list(EpochSampler(23, 4, **arguments))).tolist()


def test_evaluation_sees_every_pair_once_in_order():
    assert positions() == list(range(23))


@pytest.mark.parametrize("world", [1, 2, 3])
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


def test_drop_last_leaves_full_batches():
    sampler = EpochSampler(23, 4, drop_last=True)
    assert [len(batch) for batch in sampler] == [4] * 5
    assert len(sampler) == 5


def test_batches_are_the_pairs_at_the_positions():
    whole = {"image": {"pooled": torch.arange(23.0)[:, None]}, "label": torch.ones(23, 1), "index": torch.arange(23)}
    for batch in in_memory_loader(whole, EpochSampler(23, 4, shuffle=True)):
        assert torch.equal(batch["image"]["pooled"][:, 0], batch["index"].float())


def test_iterating_leaves_the_global_generator_alone():
    whole = {"label": torch.ones(23, 1)}
    before = torch.get_rng_state()
    list(in_memory_loader(whole, EpochSampler(23, 4, shuffle=True)))
    assert torch.equal(torch.get_rng_state(), before)


LABEL = torch.eye(6)[torch.arange(50) % 5]  # the last class has no pair
LABEL[:3, 4] = 1


def test_a_class_batch_holds_each_class_as_often():
    for rows in ClassSampler(LABEL, 4, 12):
        assert len(rows) == 12
        groups = LABEL[rows].view(4, 3, 6)
        assert (groups.prod(1).sum(1) >= 1).all()  # three pairs that share a label
        assert len({tuple(group.tolist()) for group in rows.view(4, 3)}) == 4


def test_class_batches_are_a_function_of_seed_and_epoch_and_shared_by_the_ranks():
    sampler = ClassSampler(LABEL, 4, 12, seed=1)
    first = [rows.tolist() for rows in sampler]
    assert first == [rows.tolist() for rows in ClassSampler(LABEL, 4, 12, seed=1)]
    sampler.set_epoch(1)
    assert first != [rows.tolist() for rows in sampler]
    shards = [list(ClassSampler(LABEL, 4, 12, seed=1, rank=rank, world=2)) for rank in range(2)]
    assert [sorted(torch.cat(parts).tolist()) for parts in zip(*shards, strict=True)] == [
        sorted(rows) for rows in first
    ]
    assert len(first) == len(sampler) == 5


def test_a_small_class_gives_its_pairs_again():
    label = torch.eye(2)[torch.tensor([0, 1, 1, 1, 1, 1])]
    assert next(iter(ClassSampler(label, 2, 8))).tolist().count(0) == 4


@pytest.mark.parametrize("classes", [1, 5, 6])
def test_classes_that_do_not_fit_a_batch_are_refused(classes):
    with pytest.raises(UserError, match=rf"classes_per_batch is {classes}: .* from 2 to the number of classes, 5"):
        ClassSampler(LABEL, classes, 12)
