"""A dataset that every method can be built on: tokens, a hierarchy, several labels; made up and separable."""

import inspect

import numpy as np
import torch

from xmodal import methods
from xmodal.cli import LINKED
from xmodal.data import CrossModalDataModule, Pairs
from xmodal.data.split import Split

SIZE, CLASSES = 96, 4  # pairs; two groups of two classes each
REGISTRY = methods.registry()
CLOSED = [name for name, method in REGISTRY.items() if issubclass(method, methods.CCA)]  # no gradient step is taken


class Toy(CrossModalDataModule):
    """Pairs of a class share it and nothing else; 32 train, the validation and test pairs are 32 each.

    Args:
        held: type of the tokens in a role; a cache has float16.
        kwargs: of `CrossModalDataModule`.
    """

    name = "toy"

    def __init__(self, held=np.float32, **kwargs):
        self.held = held
        super().__init__(root=".", **({"tokens": True, "relevance": "finest", "batch_size": 32} | kwargs))

    def label_embeddings(self):
        return torch.randn(CLASSES + 2, 384, generator=torch.Generator().manual_seed(0))

    def split(self):
        train, val, test = np.arange(SIZE).reshape(3, -1)
        return Split(train, val, val, test, test)

    def pairs(self):
        rng = np.random.default_rng(0)
        classes = np.arange(SIZE) % CLASSES
        label = np.zeros((SIZE, CLASSES + 2), np.uint8)
        label[np.arange(SIZE), classes] = label[np.arange(SIZE), CLASSES + classes // 2] = 1
        sides = []
        for pooled, tokens in ((24, (4, 12)), (16, (6, 10))):
            centre, token = rng.normal(size=(CLASSES, pooled)), rng.normal(size=(CLASSES, *tokens))
            side = {
                "pooled": (centre[classes] + 0.7 * rng.normal(size=(SIZE, pooled))).astype(np.float16),
                "tokens": (token[classes] + 0.7 * rng.normal(size=(SIZE, *tokens))).astype(np.float16),
            }
            sides.append({**side, "tokens": side["tokens"].astype(self.held)})
        sides[1]["mask"] = np.arange(6)[None] < rng.integers(2, 7, size=SIZE)[:, None]
        hierarchy = np.stack([classes // 2, classes], 1)
        return Pairs(*sides, label, tuple("abcdef"), hierarchy.astype(np.int64))


SMALL = {
    "dim": 64,
    "width": 32,
    "hidden": 64,
    "text_hidden": 64,
    "features": 64,
    "base": (64,),
    "heads": 2,
    "layers": 1,
    "positives": "label",
    "space": "projected",
    "optimizer": "adam",
}


def default(name, key):
    """The default of a constructor's argument; None where there is no such argument."""
    parameter = inspect.signature(REGISTRY[name]).parameters.get(key)
    return parameter and parameter.default


def build(name, data, size=16, **arguments):
    """A registered method with its linked arguments from the data, as the CLI fills them."""
    cls = REGISTRY[name]
    parameters = inspect.signature(cls).parameters
    linked = {key: getattr(data, key) for key in LINKED if key in parameters}
    if name == "untrained":
        arguments = {"space": "none"} | arguments  # made-up features share none
    small = {key: value for key, value in SMALL.items() if isinstance(default(name, key), type(value))}
    unit = "bits" if "bits" in parameters and name not in CLOSED else "dim"
    return cls(**small | {unit: size} | linked | arguments)
