"""Imported by the server that trials are forked from, and only there: does once what every trial would do first."""

import contextlib
import gc
import json
import os
import sys
from typing import Any

import torch
import wandb.apis.public  # noqa: F401 - `wandb.init` imports it, and that is most of a start
from lightning import Trainer

from xmodal import paths
from xmodal.cli import Parsed
from xmodal.records import provenance
from xmodal.records.loggers import start_service
from xmodal.tuning import trial  # noqa: F401 - what a fork runs
from xmodal.tuning.worker import WARM


class Rehearsal(Parsed):
    """Builds model and data, and trains and validates on one batch; writes nothing."""

    def instantiate_classes(self) -> None:
        """See the class."""
        parts = self.parser.instantiate_classes(self.config)
        quiet: Any = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = Trainer(fast_dev_run=True, accelerator="cpu", **quiet)
        trainer.fit(parts.model, datamodule=parts.data)


command, *arguments = json.loads(os.environ[WARM])
if os.getppid() != command:  # it has ended before the imports did: it had nothing to do, or was refused
    sys.exit()
provenance()  # of the code that the forks run, which is the code that is imported here
with contextlib.suppress(Exception):  # a trial says it better
    start_service(paths.runs())  # one for all forks, which find it in the environment
if not torch.cuda.is_available():  # CUDA does not survive a fork, and a model may ask it while it is built
    torch.set_num_threads(1)  # threads do not survive a fork either
    with contextlib.suppress(Exception):
        Rehearsal(arguments)
gc.collect()
gc.freeze()  # no collection of a fork looks at what is here, or makes a copy of its pages
