"""A trained run, as far as encoding needs it: its method, its encoders and, where it is asked for, its data."""

import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from xmodal import paths
from xmodal.batch import SIDES, Features, Raw, Side
from xmodal.checkpoint import read_checkpoint
from xmodal.checks import parameters_of
from xmodal.data.module import CrossModalDataModule
from xmodal.data.trunk_inputs import Role
from xmodal.encoders import BagOfWords, ImageEncoder, TextEncoder, words_of
from xmodal.errors import UserError
from xmodal.experiment import CARRIED
from xmodal.keys import arguments_of, built
from xmodal.methods import RetrievalMethod
from xmodal.metrics.packing import embedding_rows
from xmodal.own import method_of, own_files
from xmodal.records.record import leaves, read_result
from xmodal.records.setups import other_data
from xmodal.relevance import Relevance
from xmodal.safe_yaml import read_yaml

Array = NDArray[Any]


@dataclass
class Trained:
    """The method of a run with its best weights, on the CPU, and the encoders in front of it.

    Args:
        folder: of the run.
        method: with its weights.
        config: of the run, `config.yaml`.
        checkpoint: SHA-256 of the checkpoint file.
        vocabulary: words of a bag-of-words encoder, where an index brings them; None: the training texts say them.
        knows: what the checkpoint keeps of the data that it was trained with.
    """

    folder: Path
    method: RetrievalMethod
    config: Mapping[str, Any]
    checkpoint: str
    vocabulary: Sequence[str] | None = None
    knows: Mapping[str, Any] = field(default_factory=dict)
    _encode: dict[Side, Callable[[list[Any]], Mapping[str, Array]]] = field(default_factory=dict)

    @classmethod
    def open(cls, run: str | Path) -> "Trained":
        """Load a run.

        Args:
            run: its folder, from here, from the home of the suite (`xmodal.paths.home`) or below its `runs/`, or a
                checkpoint in its `checkpoints/`.

        Raises:
            UserError: there is no such run, it kept no checkpoint, or a file of it is damaged.
        """
        path = next((each for each in (*paths.places(run), paths.runs() / run) if each.exists()), None)
        if path is None:
            raise UserError(
                f"there is no run {run} here or in {paths.home()}: give its folder, such as runs/dmsf/emoji/64/seed0."
            )
        file = path if path.is_file() else path / "checkpoints" / "best.ckpt"
        folder = file.parent.parent
        if not file.is_file() or not (folder / "config.yaml").is_file():
            raise UserError(f"{path} is no finished run: it lacks checkpoints/best.ckpt or config.yaml.")
        saved = read_checkpoint(file)
        try:
            config = read_yaml(folder / "config.yaml")
            method = method_of(config["model"], saved)
        except (ImportError, AttributeError, KeyError, TypeError) as error:
            raise UserError(
                f"the run {folder} cannot be loaded ({type(error).__name__}: {error}); where its method is a class of "
                "your own, run the command where its file lies."
            ) from error
        with file.open("rb") as content:  # which may be larger than the memory that is left
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        return cls(folder, method, config, digest, knows=saved["callbacks"].get("SameData", {}))

    @property
    def bits(self) -> int:
        """Length of the codes, as they leave the method; 0 for embeddings."""
        said = self._record.get("output_size", self.method.hparams.get("bits", 0))
        return int(said) if self.method.kind == "binary" else 0

    @cached_property
    def data(self) -> CrossModalDataModule:
        """The data module of the run; it reads nothing before it is asked.

        Raises:
            UserError: its configuration is not valid any more, or weights that it names are others by now.
        """
        frozen = tuple(f"data.init_args.{side}_encoder." for side in SIDES if side not in self.method.trunks)
        for key, found in own_files({each: self.config[each] for each in ("model", "data")}).items():
            if (was := self._record.get("own_code", {}).get(key, found)) != found and key.startswith(frozen):
                raise UserError(f"{key} of {self.folder} has changed since it was trained: restore it, or train again.")
            if was != found and not key.startswith("data.init_args."):  # weights that training began with are past
                sys.stderr.write(f"{key} of {self.folder} has changed since (own_code {was}, not {found})\n")
        config = {key: self.config["data"][key] for key in ("class_path", "init_args")}
        return cast("CrossModalDataModule", built(CrossModalDataModule, config))

    def encoder(self, side: Side) -> ImageEncoder | TextEncoder:
        """What makes features of a side.

        Raises:
            UserError: the run read features that its dataset brought.
        """
        trunks: Any = self.method.trunks
        found = trunks[side].encoder if side in trunks else getattr(self.data, f"{side}_encoder", None)
        if found is None:
            raise UserError(
                f"{self.data.name} brings features of its own, so that no encoder knows a new {side}: choose a run on "
                "pictures and texts."
            )
        return cast("ImageEncoder | TextEncoder", found)

    def encoder_keys(self) -> dict[str, Any]:
        """By side, everything that changes what its encoder gives; a side without an encoder is left out."""
        found: dict[str, Any] = {}
        for side in SIDES:
            with suppress(UserError):
                found[side] = dict(self.encoder(side).key())
        return found

    def encode(self, side: Side, items: Sequence[Image.Image] | Sequence[str]) -> Array:
        """Codes or embeddings of new pictures or texts, each as the evaluation would have made it.

        Args:
            side: of the items.
            items: B decoded pictures, or texts.

        Returns:
            (B, ceil(bits / 8)) uint8, bit k of byte j is column 8 j + k; or (B, dim) float32 of length 1.

        Raises:
            UserError: the side cannot be encoded, a text is empty, or no word of it is in the vocabulary.
        """
        return self.outputs(side, self.features(side, items))

    @torch.inference_mode()
    def features(self, side: Side, items: Sequence[Image.Image] | Sequence[str]) -> Features:
        """What the method reads of new pictures or texts."""
        if side == "text":
            self._check_texts(cast("Sequence[str]", items))
        if side in self.method.trunks:
            trunk: Any = self.method.trunks[side]
            images = [torch.as_tensor(trunk.transform(item)) for item in items] if side == "image" else []
            raw = Raw(pixels=torch.stack(images)) if images else Raw(ids=trunk.transform(list(items)))
            with self.precision():
                return cast("Features", trunk(raw))
        if side not in self._encode:
            self._encode[side] = self._opened(side)
        kept = ("pooled", "tokens", "mask") if self.data.tokens else ("pooled",)
        found = {name: torch.from_numpy(array) for name, array in self._encode[side](list(items)).items()}
        features = {n: each if each.dtype == torch.bool else each.float() for n, each in found.items() if n in kept}
        return self.method.standardise(side, cast("Features", features))

    @torch.inference_mode()
    def outputs(self, side: Side, features: Features) -> Array:
        """Codes or embeddings of features, as `encode` gives them."""
        with self.precision():
            return self.packed(self.method.encode(side, features))

    def precision(self) -> torch.autocast:
        """Compute as the run did: in another precision, codes have other bits than were scored."""
        mixed = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}.get(self._scored_in)
        return torch.autocast("cpu", mixed, enabled=mixed is not None)

    @cached_property
    def _scored_in(self) -> str:
        """The precision of the record: where the configuration leaves it open, or the CPU has another, it tells."""
        return str(self._record.get("precision") or self.config["trainer"]["precision"])

    @cached_property
    def _record(self) -> Mapping[str, Any]:
        with suppress(UserError):
            return read_result(self.folder / "result.json")
        return {}

    def packed(self, outputs: Tensor) -> Array:
        """What leaves the method, (B, K), as it is searched; see `encode`."""
        if self.method.kind == "binary":
            if outputs.shape[1] != self.bits:  # no record says so yet
                raise UserError(f"{self.method.name} gives codes of {outputs.shape[1]} bits: evaluate the run first.")
            return np.packbits((outputs >= 0).numpy(), axis=1, bitorder="little")
        return normalize(embedding_rows(outputs, "outputs")).numpy()

    def reads(self, kind: Any, arguments: Mapping[str, Any]) -> bool:  # noqa: ANN401 - a data module's class
        """Whether the run was trained on these data, encoders and batches aside; by default as their class says."""
        asked = {name: each.default for name, each in parameters_of(kind).items()} | dict(arguments)
        own = {key: value for key, value in self.config["data"]["init_args"].items() if key not in (*CARRIED, "seed")}
        there = dict(leaves(asked))
        return type(self.data) is kind and all(there.get(key, value) == value for key, value in leaves(own))

    def other(self, kind: Any, **arguments: Any) -> CrossModalDataModule:  # noqa: ANN401 - of a data module's class
        """Another dataset, read through the encoders of this run.

        Args:
            kind: a data module's class.
            **arguments: of it; those of encoding are the run's.

        Raises:
            UserError: the run knows the words of its own dataset only, or the dataset brings features of its own.
        """
        encoders = {f"{side}_encoder": self.encoder(side) for side in SIDES}
        if getattr(encoders["text_encoder"], "fits", False):
            raise UserError(f"this run knows the words of {self.data.name} only: index that, or a folder.")
        if not encoders.keys() <= arguments_of(kind):
            raise UserError(f"{kind.name} brings features of its own: this run reads pictures and texts.")
        options: dict[str, Any] = {**arguments, **encoders, "tokens": self.data.tokens, "trunk": self.data.trunk}
        return cast("CrossModalDataModule", kind(**options | {"image_scaling": "none", "text_scaling": "none"}))

    def role(self, role: Role, data: CrossModalDataModule | None = None) -> tuple[dict[Side, Array], Relevance]:
        """Codes or embeddings of both sides of a role, and what its pairs are judged by, as the evaluation saw them.

        Args:
            role: of the split.
            data: from `other`; None: the run's own.

        Raises:
            UserError: the run's own data have changed since it was trained.
        """
        own, parts = data is None and self._unchanged, []  # looked at before anything is encoded
        data = data or self.data
        with torch.inference_mode(), self.precision():
            for batch in data.batches(role):
                made: list[Array] = []
                for side in SIDES:
                    features = batch[side]
                    if side in self.method.trunks:
                        features = self.method.trunks[side](features)
                    elif not own:
                        features = self.method.standardise(side, features)
                    made.append(self.packed(self.method.encode(side, features)))
                parts.append(made)
        image, text = (np.concatenate(side) for side in zip(*parts, strict=True))
        return {"image": image, "text": text}, data.judged(data.positions(role))

    @cached_property
    def _unchanged(self) -> bool:
        """That the run's own data are those it was trained on: else a `UserError`; other inputs are told in a line."""
        here = self.data.describe()
        if key := other_data(self.knows, here):
            raise UserError(
                f"the data have changed since {self.folder} was trained ({key}): restore them, or train again; `xmodal "
                "index --folder` takes pictures as they are, unless texts are read as a bag of their words."
            )
        was, now = self._record.get("inputs_hash"), here["inputs_hash"]  # another CPU encodes a little otherwise
        if was not in (None, now):
            sys.stderr.write(f"the inputs are not those of {self.folder} (inputs_hash {was}, not {now})\n")
        return True

    def words(self) -> Sequence[str] | None:
        """The vocabulary of a bag-of-words run; None for other texts."""
        encoder = getattr(self.data, "text_encoder", None)
        if isinstance(encoder, BagOfWords) and self.vocabulary is None and self._unchanged:
            self.vocabulary = encoder.vocabulary(self.data.training_texts())
        return self.vocabulary

    def _opened(self, side: Side) -> Callable[[list[Any]], Mapping[str, Array]]:
        encoder: Any = self.encoder(side)
        words = self.words() if side == "text" else None
        none: Any = ([],) if side == "text" else ()  # to learn the words of
        opened = encoder.open(*none) if words is None else encoder.reader(words)
        return cast("Callable[[list[Any]], Mapping[str, Array]]", opened)

    def _check_texts(self, texts: Sequence[str]) -> None:
        if not all(text.strip() for text in texts):
            raise UserError("a text is empty: give words.")
        if (words := self.words()) is not None:
            known = set(words)
            for text in texts:
                if not known & (asked := words_of(text)):
                    raise UserError(
                        f"no word of {text!r} is in the vocabulary of this bag-of-words run: it does not know "
                        f"{', '.join(sorted(asked)) or 'signs without words'}; it knows {len(known)} words, such as "
                        f"{', '.join(sorted(known)[:5])}."
                    )

    def unknown(self, text: str) -> list[str]:
        """Words of a text that a bag-of-words run leaves out."""
        return [] if (words := self.words()) is None else sorted(words_of(text) - set(words))
