"""A queue of past codes with their labels, for contrastive losses."""

import torch
from torch import Tensor, nn


class CodeQueue(nn.Module):
    """First in, first out; its codes, labels, fill and pointer come back from a checkpoint.

    Args:
        size: number of slots; 0 holds nothing.
        bits: K.
        num_labels: C.
        filled: start full of noise, normalised N(0, 1) codes with random labels, as SCAHN's release does; otherwise
            empty.
    """

    code: Tensor
    label: Tensor
    present: Tensor
    pointer: Tensor

    def __init__(self, size: int, bits: int, num_labels: int, *, filled: bool = False) -> None:
        super().__init__()
        noise = nn.functional.normalize(torch.randn(size, bits)), torch.randint(2, (size, num_labels)).float()
        self.register_buffer("code", noise[0] if filled else torch.zeros(size, bits))
        self.register_buffer("label", noise[1] if filled else torch.zeros(size, num_labels))
        self.register_buffer("present", torch.full((size,), filled))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    def extend(self, code: Tensor, label: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """These codes and labels followed by the queue's, and which of all rows are there (B + size, bool).

        Args:
            code: (B, K).
            label: (B, C).
        """
        present = torch.cat([self.present.new_ones(len(code)), self.present])
        return torch.cat([code, self.code]), torch.cat([label, self.label]), present

    def push(self, code: Tensor, label: Tensor) -> None:
        """Overwrite the oldest slots; under DDP give the rows of all processes, so that every queue stays the same.

        Args:
            code: (B, K), detached here; of more rows than slots the last ones are kept.
            label: (B, C).
        """
        size = len(self.code)
        if not size:
            return
        code, label = code.detach()[-size:].to(self.code.dtype), label[-size:]
        slots = (self.pointer + torch.arange(len(code), device=code.device)) % size
        self.code[slots], self.label[slots] = code, label
        self.present.index_fill_(0, slots, True)  # an assignment would copy True to the device
        self.pointer.copy_((self.pointer + len(code)) % size)
