"""Run records, loggers and the tables made from records. Loggers are imported by those who log: they take seconds."""

from xmodal.code import own_code, provenance
from xmodal.records.record import forget_peak, machine, read_result, read_results, write_result

__all__ = ["forget_peak", "machine", "own_code", "provenance", "read_result", "read_results", "write_result"]
