"""Methods: one file each. A method is registered by its import here and its name in `__all__`."""

from xmodal.methods.acmr import ACMR
from xmodal.methods.alscor import ALSCOR
from xmodal.methods.attention_adversarial import AttentionAdversarial
from xmodal.methods.base import RetrievalMethod
from xmodal.methods.cca import CCA
from xmodal.methods.dagan import DAGAN
from xmodal.methods.dcmh import DCMH
from xmodal.methods.dcmht import DCMHT
from xmodal.methods.dimch import DIMCH
from xmodal.methods.djsrh import DJSRH
from xmodal.methods.dmsf import DMSF
from xmodal.methods.dnph import DNPH
from xmodal.methods.dscmr import DSCMR
from xmodal.methods.dsph import DSPH
from xmodal.methods.hierarchical_adversarial import HierarchicalAdversarial
from xmodal.methods.mith import MITH
from xmodal.methods.pretrain import Pretrain
from xmodal.methods.scahn import SCAHN
from xmodal.methods.text_guided_clip import TextGuidedCLIP
from xmodal.methods.twdh import TwDH
from xmodal.methods.umoed import UMoED
from xmodal.methods.untrained import Untrained

__all__ = [
    "ACMR",
    "ALSCOR",
    "CCA",
    "DAGAN",
    "DCMH",
    "DCMHT",
    "DIMCH",
    "DJSRH",
    "DMSF",
    "DNPH",
    "DSCMR",
    "DSPH",
    "MITH",
    "SCAHN",
    "AttentionAdversarial",
    "HierarchicalAdversarial",
    "Pretrain",
    "RetrievalMethod",
    "TextGuidedCLIP",
    "TwDH",
    "UMoED",
    "Untrained",
    "registry",
]


def registry() -> dict[str, type[RetrievalMethod]]:
    """Every method by its name."""
    found = (globals()[each] for each in __all__ if each not in ("RetrievalMethod", "registry"))
    return {each.name: each for each in found}
