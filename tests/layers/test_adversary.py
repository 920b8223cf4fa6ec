import os

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tests.forks import CONTEXT
from tests.losses.test_pairwise import golden
from xmodal.layers import Shard, decoder, discriminator, gather_with_gradient, reversal_strength, reverse_gradient
from xmodal.losses import polynomial, ranking_hinge, total_correlation


def test_reversal_is_the_identity_with_a_negative_gradient():
    x = golden(0.3, 4, 3).requires_grad_()
    out = reverse_gradient(x, 0.7)
    assert torch.equal(out, x)
    weight = golden(0.9, 4, 3)
    (out * weight).sum().backward()
    assert torch.allclose(x.grad, -0.7 * weight)


def test_schedule_rises_from_zero_to_one():
    values = [reversal_strength(p) for p in (0, 0.1, 0.5, 1)]
    assert values == pytest.approx([0, 0.462117157, 0.986614298, 0.999909204])


def test_joint_step_plays_the_game():
    """One backward: the critic descends on its loss, the encoder ascends."""
    x, encoder, critic = golden(0.3, 8, 3).float(), nn.Linear(3, 3), discriminator((3, 4))

    def loss():
        return critic(encoder(x)).square().mean()

    plain = torch.autograd.grad(loss(), [encoder.weight, critic[0].weight])
    reversed_ = torch.autograd.grad(
        critic(reverse_gradient(encoder(x), 1.0)).square().mean(), [encoder.weight, critic[0].weight]
    )
    assert torch.allclose(reversed_[0], -plain[0])
    assert torch.allclose(reversed_[1], plain[1])


def test_discriminator_gives_one_logit_and_may_be_linear():
    critic = discriminator((6, 4, 2), slope=1).double()
    x = golden(0.3, 5, 6)
    assert critic(x).shape == (5,)
    assert torch.allclose(critic(2 * x) - critic(x), critic(x) - critic(0 * x))


def test_decoder_restores_the_size():
    assert decoder(8, 20)(torch.zeros(4, 8)).shape == (4, 20)


# ---- the gather, and equal gradients on one and two processes

LOSSES = {
    "correlation": lambda u, v: total_correlation(u, v),
    "ranking": lambda u, v: ranking_hinge(u @ v.T, torch.eye(len(u)) > 0, 0.3),
    "polynomial": lambda u, v: polynomial((u @ v.T).tanh(), torch.eye(len(u)) > 0),
}


def gradients(name, rank, world):
    """Mean over processes of the gradients of two linear encoders, as DDP takes it; uneven shards."""
    x, weights = golden(0.2, 11, 4), [golden(s, 4, 3).requires_grad_() for s in (0.5, 1.1)]
    own = x[rank::world]
    outputs = [own @ weight for weight in weights]
    if world > 1:
        outputs = [gather_with_gradient(output, Shard(rank, world, len(x))) for output in outputs]
    found = torch.autograd.grad(LOSSES[name](*outputs), weights)
    for gradient in found if world > 1 else ():
        dist.all_reduce(gradient)
    return [gradient / world for gradient in found]


def work(rank, path, results):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{path}", rank=rank, world_size=2)
    results.put({name: [each.tolist() for each in gradients(name, rank, 2)] for name in LOSSES})
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.ddp
def test_gradients_are_the_same_on_two_processes(tmp_path):
    results = CONTEXT.SimpleQueue()  # autograd does not survive a fork of a process that has used a GPU
    processes = [CONTEXT.Process(target=work, args=(rank, tmp_path / "store", results)) for rank in range(2)]
    for process in processes:
        process.start()
    found = [results.get() for _ in processes]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    for name in LOSSES:
        for rank in found:
            for two, one in zip(rank[name], gradients(name, 0, 1), strict=True):
                assert torch.allclose(torch.tensor(two, dtype=torch.float64), one, atol=1e-12), name
