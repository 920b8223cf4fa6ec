import numpy as np
import torch
import torch.nn.functional as F

from xmodal.layers import LabelGCN, label_graph

LABEL = torch.tensor([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 1, 1], [1, 0, 1]], dtype=torch.float64)


def test_the_graph_is_the_published_one():
    expected = [[0.888889, 0.111111, 0.105409], [0.111111, 0.888889, 0.105409], [0, 0, 0.8]]
    assert np.allclose(label_graph(LABEL), expected, atol=1e-6)


def test_a_label_that_never_occurs_keeps_its_own_weight():
    graph = label_graph(torch.cat([LABEL, torch.zeros(5, 1, dtype=torch.float64)], 1))
    assert graph[3].tolist() == [0, 0, 0, 1]


def test_the_convolution_is_the_dense_formula():
    adjacency, feature = label_graph(LABEL.float()), torch.randn(3, 5)
    network = LabelGCN(5, 4, 6)
    network.open(adjacency, feature)
    first, second = network.first.lin.weight.T, network.second.lin.weight.T
    dense = adjacency @ F.leaky_relu(adjacency @ feature @ first, 0.2) @ second
    assert torch.allclose(network(), dense, atol=1e-6)
    assert not list(network.state_dict().keys() & {"edges", "feature"})
