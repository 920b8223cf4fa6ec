import pytest
import torch

from tests.methods.training import fit


@pytest.fixture
def two_processes_equal_one(monkeypatch):
    """Train a small model on one process and on two (gloo): they end the same, but for the order in a queue."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")

    def check(build):
        one = fit(build).state_dict()
        kind = "ddp_fork" if build().automatic_optimization else "ddp_fork_find_unused_parameters_true"
        two = fit(build, devices=2, strategy=kind).state_dict()
        start = build().state_dict()
        assert any(not torch.equal(one[name], value) for name, value in start.items())
        for name, value in one.items():
            pair = two[name], value
            if name.startswith("queue") and value.ndim:  # the rows of a batch are queued in the order of the ranks
                pair = tuple(part.sort(0).values for part in pair)
            torch.testing.assert_close(*pair, rtol=1e-4, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")

    return check
