"""A data module of made-up pairs with tokens, small enough to train on in a moment, and ways to train on it."""

import warnings

import numpy as np
import torch
from lightning import Trainer, seed_everything

from xmodal.data import CrossModalDataModule, Pairs
from xmodal.data.protocol import make_split

SIZES = {"image_dim": 12, "text_dim": 10, "image_token_dim": 12, "text_token_dim": 10, "num_labels": 6}
HARMLESS = (  # what the command line silences too, and what forked processes say
    "The number of training batches",
    "The '.*dataloader' does not have many workers",
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
    "It is recommended to use `self.log",  # the metrics are the same on every process already
    "This process .* is multi-threaded, use of fork",
)


class Toy(CrossModalDataModule):
    """Pairs whose image, text and tokens follow their labels, plus noise; texts have masked tokens."""

    name = "toy"

    def __init__(self, size=61, batch_size=8, **kwargs):
        super().__init__(batch_size=batch_size, tokens=True, **kwargs)
        self.size = size

    def split(self):
        return make_split(np.arange(16, self.size), np.arange(16), 16, seed=1, database="test")

    def pairs(self):
        rng = np.random.default_rng(0)
        label = (rng.random((self.size, 6)) < 0.3).astype(np.uint8)
        label[np.arange(self.size), np.arange(self.size) % 6] = 1
        sides = {}
        for side, dim, count in (("image", 12, 4), ("text", 10, 5)):
            centre = label @ rng.normal(size=(6, dim))
            tokens = centre[:, None] + rng.normal(size=(self.size, count, dim))
            sides[side] = {"pooled": tokens.mean(1), "tokens": tokens}
        sides["text"]["mask"] = np.arange(5) < rng.integers(2, 6, (self.size, 1))
        return Pairs(sides["image"], sides["text"], label, tuple("abcdef"))

    def label_embeddings(self):
        return torch.randn(6, 7, generator=torch.Generator().manual_seed(0))


def fit(build, epochs=1, batch_size=8, seed=0, **trainer):
    """Build a model under a seed, train it on the toy data, and return it."""
    seed_everything(seed, verbose=False)
    data, model = Toy(batch_size=batch_size), build()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    quiet |= {"enable_model_summary": False, "num_sanity_val_steps": 0, "accelerator": "cpu"}
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message)
        Trainer(max_epochs=epochs, use_distributed_sampler=False, **quiet, **trainer).fit(model, data)
    return model
