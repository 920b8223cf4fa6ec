"""Columns of a metric's state: checked as they come in, and read back as what the pairs are judged by."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from xmodal.metrics.packing import unpack_bits
from xmodal.relevance import Relevance

Split = Literal["query", "database"]


def relevance(state: dict[str, Tensor], labels: int) -> Relevance:
    """What a split is judged by; `labels` is 0 where the labels are class numbers."""
    one = {name: state[name][:, 0] for name in ("index", "group") if name in state}
    label = unpack_bits(state["label"], labels) if labels else state["label"][:, 0]
    return Relevance(**one, label=label, hierarchy=state.get("hierarchy"))


def joined(
    state: Mapping[str, Sequence[Tensor] | Tensor], types: Mapping[str, torch.dtype]
) -> dict[str, Tensor | None]:
    """The batches of each column as one; None where there are none.

    Raises:
        ValueError: a column of another type, such as packed codes that `set_dtype` has made floating point numbers.
    """
    columns = {name: torch.cat(list(batches)) if len(batches) else None for name, batches in state.items()}
    for name, column in columns.items():
        if column is not None and column.dtype != types[name]:
            raise ValueError(f"{name} is kept as {types[name]} and was made {column.dtype}: set no type of a metric")
    return columns


def rows_of(judged: Relevance, rows: Tensor | None) -> Relevance:
    """Some of the pairs; all of them where `rows` is None."""
    return judged if rows is None else judged.at(rows)


def kept_of(outputs: Tensor, rows: Tensor | None) -> Tensor:
    """Some of the outputs; all of them where `rows` is None."""
    return outputs if rows is None else outputs[rows]


def ids_column(ids: Tensor, name: str) -> Tensor:
    """(B,) integers as a column of the state, (B, 1).

    Raises:
        ValueError: another shape or type.
    """
    if ids.ndim != 1 or ids.is_floating_point() or ids.is_complex():
        raise ValueError(f"{name} must hold integers with shape (B,), got {ids.dtype} {tuple(ids.shape)}")
    return ids.long()[:, None]


def classes_column(hierarchy: Tensor) -> Tensor:
    """(B, layers) class numbers, int64.

    Raises:
        ValueError: another shape or type, or a negative number.
    """
    if hierarchy.ndim != 2 or hierarchy.is_floating_point() or (hierarchy < 0).any():
        raise ValueError(
            f"hierarchy must hold class numbers with shape (B, layers), got {hierarchy.dtype} {tuple(hierarchy.shape)}"
        )
    return hierarchy.long()
