"""What travels through the suite: a `Batch` of image-text pairs, each side as `Features`."""

from typing import Literal, NotRequired, TypedDict, cast

import torch
from torch import Tensor

Side = Literal["image", "text"]
SIDES: tuple[Side, Side] = ("image", "text")
OTHER: dict[Side, Side] = {"image": "text", "text": "image"}


class Features(TypedDict):
    """What an encoder trunk gives for B inputs.

    Attributes:
        pooled: (B, D) one vector per input.
        tokens: (B, N, D') patches of an image or word pieces of a text; only where the data module was asked for them.
        mask: (B, N) bool, True where a token is real; absent when every token is.

    A whole role holds tokens as the cache does, float16; `single` makes them what a method computes with.
    """

    pooled: Tensor
    tokens: NotRequired[Tensor]
    mask: NotRequired[Tensor]


class Raw(TypedDict):
    """What a trunk that is trained inside the model reads: pictures or token ids.

    Attributes:
        pixels: (B, 3, H, W) uint8, as the trunk's own transform gives them, or whole pictures to cut windows from.
        window: (B, 5) where the trunk looks in whole pictures; see `xmodal.encoders.View`.
        ids: (B, L) token ids.
    """

    pixels: NotRequired[Tensor]
    window: NotRequired[Tensor]
    ids: NotRequired[Tensor]


class Batch(TypedDict):
    """B image-text pairs.

    A side whose trunk is trained leaves the loader as `Raw`; the base class of the methods makes `Features` of it.

    Attributes:
        image: features of the images.
        text: features of the texts.
        label: (B, C) float, multi-hot.
        index: (B,) int64, the pair's position in the dataset: metric states and code tables are keyed by it.
        hierarchy: (B, K) int64, class index per layer, coarsest first; hierarchical datasets only.
        group: (B,) int64, the picture that a pair's text describes; datasets with several captions of one only.
    """

    image: Features
    text: Features
    label: Tensor
    index: Tensor
    hierarchy: NotRequired[Tensor]
    group: NotRequired[Tensor]


def single(tensor: Tensor) -> Tensor:
    """What is kept as float16, as float32; anything else as it is."""
    return tensor.float() if tensor.dtype == torch.float16 else tensor


def chunks(size: int, length: int = 1024) -> list[slice]:
    """Slices of at most `length` that cover `size` rows, for encoding a whole role without holding it all."""
    return [slice(start, start + length) for start in range(0, size, length)]


def rows_of(features: Features, rows: slice) -> Features:
    """Some rows of the features of a role, tokens as float32."""
    return cast("Features", {key: single(cast("Tensor", value)[rows]) for key, value in features.items()})
