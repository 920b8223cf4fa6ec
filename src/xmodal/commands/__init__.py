"""The commands, one file each under the name that people type."""
