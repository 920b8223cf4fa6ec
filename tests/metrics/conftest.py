"""One thread (the machines that run the tests are shared), and property tests that are the same every time."""

import pytest
import torch
from hypothesis import settings

settings.register_profile("xmodal", derandomize=True, database=None, deadline=None, max_examples=40)
settings.load_profile("xmodal")


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def pairs():
    """Relaxed outputs that follow the labels: `pairs(queries, items, bits)` gives image, text, label for all rows."""

    def make(queries=20, items=150, bits=16, labels=12, seed=0, noise=1.5):
        generator = torch.Generator().manual_seed(seed)
        rows = queries + items
        label = (torch.rand(rows, labels, generator=generator) < 0.2).float()
        centre = label @ torch.randn(labels, bits, generator=generator)
        image, text = (centre + noise * torch.randn(rows, bits, generator=generator) for _ in range(2))
        return image.tanh(), text.tanh(), label

    return make
