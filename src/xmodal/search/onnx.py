"""Both encoders of a run as ONNX, trunk included: from pixels and token ids to codes or embeddings."""

import warnings
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from xmodal.batch import Features, Raw, Side
from xmodal.encoders import BagOfWords, MiniLM
from xmodal.errors import UserError
from xmodal.search.engine import Array
from xmodal.search.export import plain
from xmodal.search.trained import Trained

CHECKED = 200  # queries whose codes are compared


class Encoder(nn.Module):
    """What a side of a run reads, in; codes in {-1, +1}, or embeddings of length 1, out.

    A frozen trunk's features pass through half precision, as they do in the cache.

    Args:
        trained: the run.
        side: of it.
        trunk: of the side; None where features come in.
    """

    def __init__(self, trained: Trained, side: Side, trunk: nn.Module | None) -> None:
        super().__init__()
        self.method, self.side, self.trunk = trained.method, side, trunk
        self.names = ("pooled", "tokens", "mask") if trained.data.tokens else ("pooled",)

    def features(self, *inputs: Tensor) -> dict[str, Tensor]:
        """What the trunk gives."""
        if self.side == "image" and self.trunk is not None:
            return cast("dict[str, Tensor]", self.trunk(Raw(pixels=inputs[0])))
        if len(inputs) == 2 and self.trunk is not None:  # sentence-transformers
            found = self.trunk({"input_ids": inputs[0], "attention_mask": inputs[1]})
            mask = inputs[1].bool()
            tokens = found["token_embeddings"] * mask[..., None]
            return {"pooled": found["sentence_embedding"], "tokens": tokens, "mask": mask}
        if self.trunk is not None:
            return cast("dict[str, Tensor]", self.trunk(Raw(ids=inputs[0])))
        return {"pooled": inputs[0]}

    def forward(self, *inputs: Tensor) -> Tensor:
        """(B, bits) or (B, dim)."""
        found = self.features(*inputs)
        if self.side not in self.method.trunks:
            found = {n: each if each.dtype == torch.bool else each.half().float() for n, each in found.items()}
            kept = cast("Features", {name: each for name, each in found.items() if name in self.names})
            found = cast("dict[str, Tensor]", self.method.standardise(self.side, kept))
        out = self.method.encode(self.side, cast("Features", found))
        return torch.where(out >= 0, 1.0, -1.0) if self.method.kind == "binary" else normalize(out)


def export_onnx(trained: Trained, folder: Path) -> dict[Side, tuple[int, int]]:
    """Write `image.onnx` and `text.onnx`, and compare what onnxruntime makes of queries with what the run makes.

    Args:
        trained: the run.
        folder: is made.

    Returns:
        By side, how many of the compared queries got the same code (embeddings: to 1e-3), and how many were compared.

    Raises:
        UserError: a package is missing, or a side has no encoder.
    """
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError as error:
        raise UserError(f"{error.name} is not installed: `pip install 'xmodal[export]'`.") from error
    folder.mkdir(parents=True, exist_ok=True)
    data, equal = trained.data, dict[Side, tuple[int, int]]()
    positions = data.positions("query")[:CHECKED].tolist()
    queries: dict[Side, list[Any]] = {
        "image": [data.picture(each) for each in positions],
        "text": [data.caption(each) for each in positions],
    }
    for side, items in queries.items():
        trunk, inputs = _inputs(trained, side, items)
        module = Encoder(trained, side, trunk).eval()
        path = folder / f"{side}.onnx"
        batch = torch.export.Dim("batch", min=1, max=4096)
        shapes = tuple(
            {0: batch, 1: torch.export.Dim.AUTO} if name in ("ids", "mask") else {0: batch} for name in inputs
        )
        try:
            with warnings.catch_warnings(), torch.no_grad():
                warnings.simplefilter("ignore")  # of torch's exporter, about its own internals
                torch.onnx.export(
                    module, tuple(each[:2] for each in inputs.values()), str(path), dynamo=True, verbose=False,
                    input_names=list(inputs), output_names=["code" if trained.bits else "output"], external_data=False,
                    dynamic_shapes=(shapes,),
                )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            cause: BaseException = error
            while cause.__cause__:
                cause = cause.__cause__
            why = " ".join(str(cause).split())[:160]
            raise UserError(f"torch cannot write the {side} encoder of {trained.method.name} as ONNX: {why}") from error
        model = onnx.load(str(path))
        onnx.helper.set_model_props(model, _about(trained, side))
        onnx.save(model, str(path))
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        parts = [
            session.run(None, {name: each[start : start + 32].numpy() for name, each in inputs.items()})[0]
            for start in range(0, len(items), 32)
        ]
        equal[side] = _equal(np.concatenate(parts), plain(trained, trained.encode(side, items))), len(items)
    return equal


def _inputs(trained: Trained, side: Side, items: list[Any]) -> tuple[nn.Module | None, dict[str, Tensor]]:
    """The trunk of a side, and what it reads of some items."""
    encoder: Any = trained.encoder(side)
    if side in trained.method.trunks:
        trunk: Any = trained.method.trunks[side]
    elif isinstance(encoder, MiniLM):
        model = encoder.model()
        read = model.tokenizer(items, padding=True, truncation=True, max_length=encoder.max_tokens, return_tensors="pt")
        return model, {"ids": read["input_ids"], "mask": read["attention_mask"]}
    elif isinstance(encoder, BagOfWords):
        found = encoder.reader(trained.words() or ())(items)["pooled"]
        return None, {"words": torch.from_numpy(np.asarray(found, np.float32))}
    else:
        trunk = encoder.trunk().eval()
    if side == "text":
        return trunk, {"ids": trunk.transform(items)}
    return trunk, {"pixels": torch.stack([trunk.transform(item) for item in items])}


def _about(trained: Trained, side: Side) -> dict[str, str]:
    about = {
        "method": trained.method.name,
        "checkpoint": trained.checkpoint,
        "encoder": str(trained.encoder_keys()[side]),
    }
    if side == "text" and (words := trained.words()) is not None:
        about["vocabulary"] = "\n".join(words)
    return about


def _equal(found: Array, wanted: Array) -> int:
    """Rows that are the same."""
    if wanted.dtype == np.int8:
        return int((found.astype(np.int8) == wanted).all(1).sum())
    return int((np.abs(found - wanted) < 1e-3).all(1).sum())
