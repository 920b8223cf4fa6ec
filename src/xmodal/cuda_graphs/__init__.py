"""CUDA graphs: a training step is launched at once, for methods whose launches dominate."""

from xmodal.cuda_graphs.callback import CudaGraphs, unfit

__all__ = ["CudaGraphs", "unfit"]
