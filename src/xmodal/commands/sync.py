"""`xmodal sync`: upload to W&B what was logged offline."""

import os
import subprocess
import sys
from collections.abc import Sequence

from xmodal import arguments, paths
from xmodal.errors import UserError
from xmodal.records.wandb_mode import keep_inside, need_server, server


def main(argv: Sequence[str]) -> int:
    """`xmodal sync [options of wandb sync]`: upload all offline runs that have not been uploaded; nothing is lost.

    Raises:
        UserError: there is no key, the server does not answer, or what answers takes no runs.
    """
    _, argv = arguments.parser("sync").parse_known_args(list(argv))
    offline = list((paths.runs() / "wandb").glob("offline-run-*"))
    if not offline:
        sys.stdout.write(f"no offline runs under {paths.runs() / 'wandb'}: nothing to upload.\n")
        return 0
    need_server("try again later, the runs stay where they are.")
    keep_inside(paths.runs())
    environment = {**os.environ, "WANDB_DIR": str(paths.runs())}
    environment.pop("WANDB_MODE", None)
    command = [sys.executable, "-m", "wandb", "sync", "--yes", *argv]
    status = subprocess.run(command, env=environment, check=False).returncode
    if not status and not argv and (left := [each.name for each in offline if not list(each.glob("*.wandb.synced"))]):
        raise UserError(
            f"{len(left)} of {len(offline)} runs are not uploaded, such as {left[0]}: what answers at {server()} took "
            "none of them. Is it W&B, or a network's login page? The runs stay where they are."
        )
    return status
