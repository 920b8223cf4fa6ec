"""A data module of made-up pairs with tokens, small enough to train on in a moment, and ways to train on it."""

import warnings

import numpy as np
import torch
from lightning import Callback, Trainer, seed_everything

from xmodal.data import CrossModalDataModule, Pairs
from xmodal.data.split import make_split

SIZES = {"image_dim": 12, "text_dim": 10, "image_token_dim": 12, "text_token_dim": 10, "num_labels": 6}
HARMLESS = (  # what the command line silences too, and what forked processes say
    "The number of training batches",
    "The '.*dataloader' does not have many workers",
    "`isinstance\\(treespec, LeafSpec\\)` is deprecated",
    "It is recommended to use `self.log",  # the metrics are the same on every process already
    "This process .* is multi-threaded, use of fork",
    "Checkpoint directory .* exists and is not empty",
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


class Died(Exception):
    """Stands for a killed process."""


class Stop(Callback):
    """Dies when the third epoch begins."""

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2:
            raise Died


def make_trainer(folder, epochs=1, **arguments):
    """A quiet trainer on the CPU, without logger and checkpoints unless the arguments say so."""
    return Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **({"accelerator": "cpu", "enable_checkpointing": False, "logger": False} | arguments),
    )


def train(model, data, folder, epochs=1, **arguments):
    """Train a model on data and return the trainer."""
    trainer = make_trainer(folder, epochs, **arguments)
    trainer.fit(model, datamodule=data)
    return trainer


def fit(build, epochs=1, batch_size=8, seed=0, **arguments):
    """Build a model under a seed, train it on the toy data, and return it."""
    seed_everything(seed, verbose=False)
    data, model = Toy(batch_size=batch_size), build()
    with warnings.catch_warnings():
        for message in HARMLESS:
            warnings.filterwarnings("ignore", message)
        train(model, data, None, epochs, **arguments)
    return model
