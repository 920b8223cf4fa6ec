"""What NCCL asks and gloo does not, so that processes on the CPU find it."""

import torch
import torch.distributed as dist


def as_nccl_asks():
    """Let this process's collectives refuse a tensor that does not lie in one piece, as NCCL does."""
    for name in ("all_reduce", "all_gather"):
        setattr(dist, name, _strict(getattr(dist, name)))


def _strict(collective):
    def asked(*arguments, **more):
        for each in arguments:
            for tensor in each if isinstance(each, list) else [each]:
                assert not isinstance(tensor, torch.Tensor) or tensor.is_contiguous(), "Tensors must be contiguous"
        return collective(*arguments, **more)

    return asked
