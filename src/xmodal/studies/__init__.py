"""Searches with Optuna and grids of runs: spaces, studies, and the processes that train."""
