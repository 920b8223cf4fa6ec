"""xmodal: cross-modal (image-text) retrieval methods under one protocol."""

__version__ = "0.1.0"
