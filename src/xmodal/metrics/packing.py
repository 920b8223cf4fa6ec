"""Codes and labels as 64-bit words: 8 bytes where the network output takes 256."""

import torch
from torch import Tensor

from xmodal.errors import NotFiniteError

WORD = 64
_SMALL = 1e-9  # of an embedding's largest number: lengths from here to its reciprocal are exact enough in float32
_ROWS = 1 << 16  # rows whose bytes are held at once
_GATHER = 0x0102040810204080  # times eight bytes that are 0 or 1: their bits, in order, in the highest byte


def pack_bits(bits: Tensor) -> Tensor:
    """Pack a boolean matrix (B, K) into int64 words (B, ceil(K / 64)); column k is bit k % 64 of word k // 64."""
    rows, columns = bits.shape
    words = -(-columns // WORD)
    packed = torch.empty(rows, words * 8, dtype=torch.uint8, device=bits.device)
    padded = torch.zeros(min(rows, _ROWS), words * WORD, dtype=torch.uint8, device=bits.device)
    for start in range(0, rows, _ROWS):
        part = padded[: rows - start]
        part[:, :columns] = bits[start : start + _ROWS]
        packed[start : start + _ROWS] = part.view(torch.int64).mul_(_GATHER).bitwise_right_shift_(56)
    return packed.view(torch.int64)


def unpack_bits(packed: Tensor, columns: int) -> Tensor:
    """Undo `pack_bits`: int64 words (B, W) to a boolean matrix (B, columns)."""
    places = torch.arange(8, dtype=torch.uint8, device=packed.device)
    octets = packed.contiguous().view(torch.uint8)
    return ((octets[:, :, None] >> places) & 1).flatten(1)[:, :columns].bool()


def code_bits(outputs: Tensor, name: str) -> Tensor:
    """Signs of network outputs or codes as booleans, sign(0) = +1.

    Args:
        outputs: (B, K) floating point, signed integer (in {-1, +1}) or boolean (True = +1).
        name: what to call the tensor in an error.

    Raises:
        ValueError: not a matrix, no column, or an unsigned integer type.
        NotFiniteError: NaN or infinite values.
    """
    if outputs.ndim != 2 or outputs.shape[1] == 0:
        raise ValueError(f"{name} must have shape (B, K) with K >= 1, got {tuple(outputs.shape)}")
    if outputs.dtype == torch.bool:
        return outputs
    if outputs.dtype == torch.uint8:
        raise ValueError(f"{name} is uint8, which cannot hold -1: pass signs, relaxed outputs or booleans")
    if outputs.is_floating_point() and not bool(outputs.isfinite().all()):
        raise NotFiniteError(f"{name} holds NaN or infinite values")
    return outputs >= 0


def label_bits(label: Tensor, name: str) -> Tensor:
    """A multi-hot label matrix (B, C) as booleans.

    Raises:
        ValueError: not a matrix, or values other than 0 and 1.
    """
    if label.ndim != 2 or label.shape[1] == 0:
        raise ValueError(f"{name} must be multi-hot with shape (B, C), got {tuple(label.shape)}")
    if label.dtype == torch.bool:
        return label
    marked = label == 1
    if not bool((marked | (label == 0)).all()):
        raise ValueError(f"{name} must be multi-hot: only 0 and 1, got other values")
    return marked


def embedding_rows(outputs: Tensor, name: str, *, scaled: bool = True) -> Tensor:
    """Embeddings (B, dim) as float32; a row whose length would be lost in float32 is divided by its largest number.

    Args:
        outputs: (B, dim).
        name: what to call the tensor in an error.
        scaled: whether rows may be divided, as for cosines.

    Raises:
        ValueError: not a floating-point matrix, or no column.
        NotFiniteError: NaN or infinite values.
    """
    if outputs.ndim != 2 or outputs.shape[1] == 0 or not outputs.is_floating_point():
        raise ValueError(
            f"{name} must be floating point with shape (B, K), K >= 1, got {outputs.dtype} {tuple(outputs.shape)}"
        )
    rows = outputs if scaled and outputs.dtype == torch.float64 else outputs.float()
    if not bool(rows.isfinite().all()):
        raise NotFiniteError(f"{name} holds NaN or infinite values")
    largest = rows.abs().amax(1, keepdim=True)
    extreme = scaled & (largest > 0) & ((largest < _SMALL) | (largest > 1 / _SMALL))
    return (rows / largest.where(extreme, 1)).float() if bool(extreme.any()) else rows.float()
