"""Searches with Optuna: studies, spaces, and trials in processes of their own."""
