"""Run records, loggers and the tables made from records."""

from xmodal.tracking.record import config_hash, machine, provenance, read_results, write_atomically, write_result
from xmodal.tracking.wandb import close, loggers

__all__ = [
    "close",
    "config_hash",
    "loggers",
    "machine",
    "provenance",
    "read_results",
    "write_atomically",
    "write_result",
]
