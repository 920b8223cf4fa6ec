"""Methods: one file each. A method is registered by its import here and its name in `__all__`."""

from xmodal.methods.base import RetrievalMethod
from xmodal.methods.cca import CCA
from xmodal.methods.dmsf import DMSF

__all__ = ["CCA", "DMSF", "RetrievalMethod"]
