"""Methods: one file each. A method is registered by its import here and its name in `__all__`."""

from xmodal.methods.acmr import ACMR
from xmodal.methods.alscor import ALSCOR
from xmodal.methods.attention_adversarial import AttentionAdversarial
from xmodal.methods.base import RetrievalMethod
from xmodal.methods.cca import CCA
from xmodal.methods.dagan import DAGAN
from xmodal.methods.dcmh import DCMH
from xmodal.methods.dcmht import DCMHT
from xmodal.methods.dmsf import DMSF
from xmodal.methods.dscmr import DSCMR
from xmodal.methods.dsph import DSPH
from xmodal.methods.hierarchical_adversarial import HierarchicalAdversarial
from xmodal.methods.mith import MITH
from xmodal.methods.pretrain import Pretrain
from xmodal.methods.scahn import SCAHN
from xmodal.methods.text_guided_clip import TextGuidedCLIP

__all__ = [
    "ACMR",
    "ALSCOR",
    "CCA",
    "DAGAN",
    "DCMH",
    "DCMHT",
    "DMSF",
    "DSCMR",
    "DSPH",
    "MITH",
    "SCAHN",
    "AttentionAdversarial",
    "HierarchicalAdversarial",
    "Pretrain",
    "RetrievalMethod",
    "TextGuidedCLIP",
    "registry",
]


def registry() -> dict[str, type[RetrievalMethod]]:
    """Every method by its name."""
    found = (globals()[each] for each in __all__ if each not in ("RetrievalMethod", "registry"))
    return {each.name: each for each in found}
