"""How every method is evaluated: its codes or embeddings, the metrics of validation and test, and their results."""

from abc import abstractmethod
from typing import Any, Literal, Protocol

import torch
from lightning import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from xmodal.batch import Batch, Features, Side
from xmodal.errors import DivergedError, NotFiniteError, UserError
from xmodal.losses import sign
from xmodal.metrics import code_statistics, retrieval_metrics
from xmodal.metrics.distributed import gather_rows as all_rows
from xmodal.relevance import Relevance

STEPS = {"val": "validation_step", "test": "test_step"}


class HasRoles(Protocol):
    """What a method may ask of the data module: a whole role as one batch."""

    def role(self, role: Literal["train", "query", "database"]) -> Batch:
        """Every training pair, every test query, or every pair they are searched in, on the trainer's device."""

    def describe(self) -> dict[str, Any]:
        """What a record says of the data, such as `split_sizes` by role."""

    def label_embeddings(self) -> Tensor:
        """(C, D) embeddings of the label names."""


class Evaluated(LightningModule):
    """A module that encodes each side by itself and is ranked by what it gives.

    Args:
        kind: see `RetrievalMethod`.

    Attributes:
        results: every test metric at full precision, for the run record.
        output_size: columns that leave the encoder, once an evaluation has seen some.
    """

    name: str

    def __init__(self, kind: Literal["binary", "real"]) -> None:
        super().__init__()
        self.kind = kind
        self.results: dict[str, float] = {}
        self.output_size: int | None = None
        self._relaxed: list[Tensor] = []  # outputs for the validation database of this epoch
        self.val_metrics = retrieval_metrics(self.kind, detail="map")
        self.test_metrics = retrieval_metrics(self.kind, detail="full")

    @abstractmethod
    def encode(self, side: Side, features: Features) -> Tensor:
        """(B, K) relaxed codes or embeddings of one side's items."""

    def conventions(self) -> dict[str, str]:
        """What each test metric means, in words, under the names of `results`."""
        metric: Any = self.test_metrics["retrieval"]
        return {f"test/{name}": words for name, words in metric.conventions.items()} if self.results else {}

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode one batch of the validation queries (loader 0) or of their database (loader 1)."""
        outputs = self._update(self.val_metrics, batch, dataloader_idx)
        if self.kind == "binary" and dataloader_idx == 1:
            self._relaxed += outputs

    def on_validation_epoch_end(self) -> None:
        """Log `val/map_i2t`, `val/map_t2i` and their mean `val/map`, the one that is monitored."""
        self.log_dict(self._compute("val", self.val_metrics))
        if self.kind == "binary":
            relaxed = torch.cat(self._relaxed)
            self.log_codes("val", all_rows({"relaxed": relaxed}, {"relaxed": relaxed.dtype}, None)["relaxed"])
            self._relaxed.clear()
        self.val_metrics.reset()

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Encode one batch of the test queries (loader 0) or of the database (loader 1)."""
        self._update(self.test_metrics, batch, dataloader_idx)

    def on_test_epoch_end(self) -> None:
        """Log every metric of the test, and keep it at full precision under the names that `result.json` uses."""
        values = self._compute("test", self.test_metrics)
        self.results = {name: float(value) for name, value in values.items()}
        self.log_dict(values)

    def predict_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> dict[str, Tensor]:
        """Codes in {-1, +1} or embeddings of both sides, with the columns of `Relevance`, such as `index`."""
        image, text = self.encode("image", batch["image"]), self.encode("text", batch["text"])
        if self.kind == "binary":
            image, text = sign(image).to(torch.int8), sign(text).to(torch.int8)
        return {"image": image, "text": text, **Relevance.of(batch).columns()}

    def log_codes(self, stage: str, relaxed: Tensor) -> None:
        """Log what shows a collapse: unique codes, bit means, correlation of the bits, quantisation gap; warn of one.

        Args:
            stage: `train` or `val`.
            relaxed: (N, bits) relaxed outputs or codes.
        """
        found = code_statistics(relaxed)
        self.log(f"{stage}/unique_codes", found.unique)
        self.log(f"{stage}/bit_mean", found.bit_means.abs().mean())
        self.log(f"{stage}/bit_correlation", found.bit_correlation)
        self.log(f"{stage}/quantization_gap", found.quantization_gap)
        if cause := found.collapse(len(relaxed)):
            rank_zero_warn(f"{self.name}, epoch {self.current_epoch}: the {stage} codes have collapsed: {cause}")

    def _update(self, metrics: Any, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        image, text = self.encode("image", batch["image"]), self.encode("text", batch["text"])
        split = ("query", "database")[dataloader_idx]
        try:
            metrics.update(split=split, image=image, text=text, **Relevance.of(batch).columns())
        except NotFiniteError as error:
            raise DivergedError(f"the {split} {error}") from error
        self.output_size = image.shape[1]
        return image, text

    def _compute(self, stage: str, metrics: Any) -> dict[str, Tensor]:  # noqa: ANN401
        if not metrics["retrieval"].update_called:
            raise UserError(f"{self.name} has nothing to rank: its {STEPS[stage]} is to call super().")
        values = {name: torch.as_tensor(value) for name, value in metrics.compute().items()}
        values["map"] = (values["map_i2t"] + values["map_t2i"]) / 2
        return {f"{stage}/{name}": value for name, value in values.items()}
