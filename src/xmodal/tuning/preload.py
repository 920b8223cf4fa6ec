"""Imported by the server that trials are forked from, and only there: does once what every trial would do first."""

import contextlib
import json
import os

import torch
import wandb.apis.public  # noqa: F401 - `wandb.init` imports it, and that is most of a start

from xmodal.cli import Parsed
from xmodal.tuning import trial  # noqa: F401 - what a fork runs
from xmodal.tuning.worker import WARM


class Built(Parsed):
    """Builds model and data as well, but no trainer."""

    def instantiate_classes(self) -> None:
        """See the class."""
        self.config_init = self.parser.instantiate_classes(self.config)


if not torch.cuda.is_available():  # CUDA does not survive a fork, and a model may ask it while it is built
    with contextlib.suppress(Exception):  # a trial says it better
        Built(json.loads(os.environ[WARM]))
