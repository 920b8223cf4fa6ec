"""Building blocks that methods are made of."""

from xmodal.layers.adversary import discriminator, reversal_strength, reverse_gradient, reversed_on_schedule
from xmodal.layers.attention import (
    AttendedFeature,
    AttentionBlock,
    AttentionPooling,
    FeatureGate,
    GroupAttention,
    TokenAttention,
    Tokens,
    masked_mean,
)
from xmodal.layers.canonical import canonical_projections
from xmodal.layers.code_discriminator import CodeDiscriminators
from xmodal.layers.code_table import CodeTables
from xmodal.layers.concepts import ConceptLearner, ConceptTransformer, aggregate_tokens
from xmodal.layers.context_decoder import ContextDecoder, JointSpace, score_pool, token_scores
from xmodal.layers.decoder import decoder
from xmodal.layers.dropout import Dropout, FeatureDropout, tell_of_own_rows
from xmodal.layers.gather import Shard, gather_with_gradient, one_row_each
from xmodal.layers.graph_convolution import LabelGCN, label_graph
from xmodal.layers.hash_head import SelectHead, head_init, tanh_head, uniform_linear
from xmodal.layers.instances import QueryDecoder, SoftMoE, TokenFilters
from xmodal.layers.label_centres import label_centres, short_map
from xmodal.layers.perceptron import MultiScaleText, perceptron
from xmodal.layers.queue import CodeQueue
from xmodal.layers.standardisation import Standardisation
from xmodal.layers.token_transformer import RegionTransformer, TokenTransformer, transformer

__all__ = [
    "AttendedFeature",
    "AttentionBlock",
    "AttentionPooling",
    "CodeDiscriminators",
    "CodeQueue",
    "CodeTables",
    "ConceptLearner",
    "ConceptTransformer",
    "ContextDecoder",
    "Dropout",
    "FeatureDropout",
    "FeatureGate",
    "GroupAttention",
    "JointSpace",
    "LabelGCN",
    "MultiScaleText",
    "QueryDecoder",
    "RegionTransformer",
    "SelectHead",
    "Shard",
    "SoftMoE",
    "Standardisation",
    "TokenAttention",
    "TokenFilters",
    "TokenTransformer",
    "Tokens",
    "aggregate_tokens",
    "canonical_projections",
    "decoder",
    "discriminator",
    "gather_with_gradient",
    "head_init",
    "label_centres",
    "label_graph",
    "masked_mean",
    "one_row_each",
    "perceptron",
    "reversal_strength",
    "reverse_gradient",
    "reversed_on_schedule",
    "score_pool",
    "short_map",
    "tanh_head",
    "tell_of_own_rows",
    "token_scores",
    "transformer",
    "uniform_linear",
]
