"""Run records, loggers and the tables made from records. Loggers are imported by those who log: they take seconds."""

from xmodal.records.record import (
    config_hash,
    forget_peak,
    machine,
    own_code,
    provenance,
    read_result,
    read_results,
    write_result,
)

__all__ = [
    "config_hash",
    "forget_peak",
    "machine",
    "own_code",
    "provenance",
    "read_result",
    "read_results",
    "write_result",
]
