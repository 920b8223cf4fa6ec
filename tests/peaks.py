"""`python -m tests.peaks EPOCH train ...`: a command of the suite whose first epoch looks best; it dies in an EPOCH."""

import os
import signal
import sys

from xmodal.__main__ import main
from xmodal.methods import RetrievalMethod

compute, begin = RetrievalMethod._compute, RetrievalMethod.on_train_batch_start


def peaked(self, stage, metrics):
    found = compute(self, stage, metrics)
    return found | ({"val/map": found["val/map"] * 0 + 1 / (1 + self.current_epoch)} if stage == "val" else {})


def die(self, batch, batch_idx):
    if str(self.current_epoch) == sys.argv[1] and batch_idx == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    begin(self, batch, batch_idx)


def ended(self):
    if sys.argv[1] == "end":
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    RetrievalMethod._compute, RetrievalMethod.on_train_batch_start = peaked, die
    RetrievalMethod.on_train_end = ended
    sys.exit(main(sys.argv[2:]))
