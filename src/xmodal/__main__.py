"""`xmodal <command>`: looks the command up and imports only what it needs."""

import sys
from collections.abc import Sequence

from xmodal.errors import UserError

COMMANDS = {
    "train": "fit one run and evaluate it once on the query set",
    "fit": "fit one run and leave the query set closed",
    "test": "evaluate a checkpoint",
    "sweep": "search a method's space with Optuna, then evaluate the best once",
    "ablate": "the full method and its variants under several seeds, as a table",
    "bits": "the tuned method over code lengths under several seeds, as a table and a figure",
    "plots": "figures of a study and of the runs at its size",
    "smoke": "one epoch of every method on a small subset",
    "compare": "a table and a page of the runs at hand",
    "dashboard": "the studies in a browser",
    "sync": "upload to W&B what was logged offline",
    "workspace": "save a W&B workspace for the suite's runs",
    "evaluate": "metrics of codes made by anybody",
    "prepare": "check and convert a dataset",
    "datasets": "the datasets, what of them is here, and their protocols",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; what the user can mend is shown as one line on stderr with exit status 2."""
    command, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        sys.stdout.write(
            "usage: xmodal <command> ...\n\n" + "".join(f"  {name:10} {text}\n" for name, text in COMMANDS.items())
        )
        return 0
    try:
        return _run(command, rest)
    except UserError as error:
        sys.stderr.write(f"xmodal {command}: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"xmodal {command}: interrupted; the same command goes on from here\n")
        return 130


def _run(command: str, argv: list[str]) -> int:
    if command in ("train", "fit", "test"):
        from xmodal import run

        return run.main(command, argv)
    if command == "sweep":
        from xmodal.tuning.command import main as sweep

        return sweep(argv)
    if command == "ablate":
        from xmodal.tuning import ablate

        return ablate.main(argv)
    if command == "bits":
        from xmodal.tuning import sizes

        return sizes.main(argv)
    if command == "plots":
        from xmodal.tuning import plots

        return plots.main(argv)
    if command == "smoke":
        from xmodal import smoke

        return smoke.main(argv)
    if command == "compare":
        from xmodal.tracking import compare

        return compare.main(argv)
    if command == "dashboard":
        from xmodal.tuning import dashboard

        return dashboard.main(argv)
    if command == "sync":
        from xmodal.tracking import sync

        return sync.main(argv)
    if command == "workspace":
        from xmodal.tracking import workspace

        return workspace.main(argv)
    if command == "prepare":
        from xmodal import prepare

        return prepare.main(argv)
    if command == "datasets":
        from xmodal import datasets

        return datasets.main(argv)
    if command == "trial":  # not listed: the sweep starts it
        from xmodal.tuning import trial

        return trial.main(argv)
    if command == "evaluate":
        from xmodal import evaluate

        return evaluate.main(argv)
    raise UserError(f"no such command; the commands are: {', '.join(COMMANDS)}.")


if __name__ == "__main__":
    sys.exit(main())
