"""Methods: one file each. A method is registered by its import here and its name in `__all__`."""

from xmodal.methods.base import RetrievalMethod
from xmodal.methods.cca import CCA
from xmodal.methods.dcmh import DCMH
from xmodal.methods.dcmht import DCMHT
from xmodal.methods.dmsf import DMSF
from xmodal.methods.dsph import DSPH
from xmodal.methods.mith import MITH
from xmodal.methods.scahn import SCAHN
from xmodal.methods.text_guided_clip import TextGuidedCLIP

__all__ = ["CCA", "DCMH", "DCMHT", "DMSF", "DSPH", "MITH", "SCAHN", "RetrievalMethod", "TextGuidedCLIP"]
