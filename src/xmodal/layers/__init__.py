"""Building blocks that more than one method uses."""

from xmodal.layers.code_table import CodeTables
from xmodal.layers.correlation import canonical_projections
from xmodal.layers.gather import gather_with_gradient
from xmodal.layers.graph import LabelGCN, label_graph
from xmodal.layers.hash_head import SelectHead, tanh_head
from xmodal.layers.queue import CodeQueue
from xmodal.layers.token_transformer import RegionTransformer, TokenTransformer, transformer
from xmodal.layers.trunk import MultiScaleText, perceptron

__all__ = [
    "CodeQueue",
    "CodeTables",
    "LabelGCN",
    "MultiScaleText",
    "RegionTransformer",
    "SelectHead",
    "TokenTransformer",
    "canonical_projections",
    "gather_with_gradient",
    "label_graph",
    "perceptron",
    "tanh_head",
    "transformer",
]
