"""Run records, loggers and the tables made from records."""

from xmodal.tracking.loggers import close, log_outputs, loggers, run_id
from xmodal.tracking.record import config_hash, machine, provenance, read_results, write_atomically, write_result

__all__ = [
    "close",
    "config_hash",
    "log_outputs",
    "loggers",
    "machine",
    "provenance",
    "read_results",
    "run_id",
    "write_atomically",
    "write_result",
]
