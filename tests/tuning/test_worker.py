"""How devices are shared out among processes."""

import pytest
import torch

from xmodal.tuning.worker import device_groups


@pytest.mark.parametrize(
    ("visible", "workers", "devices", "dealt"),
    [
        (None, 5, 1, ["0", "1", "2", "3", "0"]),
        (None, 3, 2, ["0,1", "2,3", "0,1"]),
        ("6,7", 3, 1, ["6", "7", "6"]),
        ("6,7", 2, 4, [None, None]),
    ],
)
def test_gpus_are_dealt_round_robin(monkeypatch, visible, workers, devices, dealt):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert device_groups(workers, devices) == dealt
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert device_groups(2, 1) == [None, None]
