"""The multi-scale text network against its definition."""

import pytest
import torch
import torch.nn.functional as F

from xmodal.layers import MultiScaleText


@pytest.mark.parametrize("dim", [4, 51, 386])
def test_averages_are_stretched_back_as_nearest_neighbours(dim):
    torch.manual_seed(0)
    network, x = MultiScaleText(dim, 7, 3), torch.randn(5, dim)
    channels = [x]
    for window, mix in zip((50, 30, 15, 10, 5), network.mix, strict=True):
        window = min(window, dim)
        averaged = F.relu(mix(F.avg_pool1d(x[:, None], window, window)))
        channels.append(F.interpolate(averaged, size=dim)[:, 0])
    read = F.relu(network.read(torch.cat(channels, 1)))
    want = F.relu(network.out(network.norm(read[:, :, None])[:, :, 0]))
    assert torch.equal(network(x), want)
    assert not [name for name in network.state_dict() if "which" in name]
