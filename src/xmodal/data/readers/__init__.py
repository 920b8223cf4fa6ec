"""Readers of files: folders and zips, arrays, the dialects in circulation."""
