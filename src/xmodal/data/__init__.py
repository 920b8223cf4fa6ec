"""Datasets: one file each, all through `CrossModalDataModule`."""

from xmodal.data.emoji import Emoji
from xmodal.data.module import CrossModalDataModule, Pairs
from xmodal.data.protocol import Split
from xmodal.data.wikipedia import Wikipedia

__all__ = ["CrossModalDataModule", "Emoji", "Pairs", "Split", "Wikipedia"]
