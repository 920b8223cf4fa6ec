"""`xmodal <command>`: looks the command up and imports only what it needs."""

import errno
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from xmodal import arguments
from xmodal.errors import UserError, meant
from xmodal.parent import FIRST, end_with_parent
from xmodal.paths import home

CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}  # full, over quota, not allowed
COMMANDS = {  # name -> the module whose `main(argv)` runs it, and what it does
    "train": ("run", "fit one run and evaluate it once on the query set"),
    "fit": ("run", "fit one run and leave the query set closed"),
    "test": ("run", "evaluate a checkpoint"),
    "sweep": ("commands.sweep", "search a method's space with Optuna, then evaluate the best once"),
    "ablate": ("commands.ablate", "the full method and its variants under several seeds, as a table"),
    "bits": ("commands.bits", "the tuned method over code lengths under several seeds, as a table and a figure"),
    "table": ("commands.table", "every method on every dataset at every size by one rule: fills and writes the tables"),
    "plots": ("commands.plots", "figures of a study and of the runs at its size"),
    "smoke": ("commands.smoke", "one epoch of every method on a small subset"),
    "compare": ("commands.compare", "a table and a page of the runs at hand"),
    "dashboard": ("commands.dashboard", "the studies in a browser"),
    "sync": ("commands.sync", "upload to W&B what was logged offline"),
    "workspace": ("commands.workspace", "save a W&B workspace for the suite's runs"),
    "index": ("commands.index", "encode a dataset or a folder with a trained run, to be searched"),
    "search": ("commands.search", "ask an index with words or pictures"),
    "demo": ("commands.demo", "a page that searches by words and pictures"),
    "export": ("commands.export", "codes, embeddings or encoders of a run, for other programs"),
    "evaluate": ("commands.evaluate", "metrics of codes made by anybody"),
    "prepare": ("commands.prepare", "check and convert a dataset"),
    "datasets": ("commands.datasets", "the datasets, what of them is here, and their protocols"),
    "methods": ("commands.methods", "the methods, what they read, and their papers"),
    "init": ("commands.init", "data, a method or a dataset of your own; or the experiment files, to edit"),
    "completion": ("commands.completion", "a script that completes all this in bash or zsh"),
    "trial": ("studies.trial", ""),  # not listed: a search or a grid of runs starts it for several devices
}
LISTED = {name: words for name, (_, words) in COMMANDS.items() if words}
FORKING = ("sweep", "ablate", "bits", "table")  # their trainings are forks, which share the cores


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; what the user can mend is shown as one line on stderr with exit status 2."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0].startswith("--home="):
        os.environ["XMODAL_HOME"] = str(Path(given.pop(0).removeprefix("--home=")).resolve())
    command, *rest = given or ["--help"]
    if command in ("-h", "--help"):
        lines = "".join(f"  {name:10} {words}\n" for name, words in LISTED.items())
        sys.stdout.write(f"usage: xmodal [--home=FOLDER] <command> ...\n\n{lines}")
        return 0
    if command not in COMMANDS:
        sys.stderr.write(
            f"xmodal {command}: no such command{meant(command, LISTED)}; the commands are: {', '.join(LISTED)}.\n"
        )
        return 2
    if {"-h", "--help"} & set(rest) and command in arguments.COMMANDS:  # which takes no imports
        arguments.parser(command).parse_args(rest)
    sys.path += [each for each in (str(home()), "") if each not in sys.path]  # where classes of one's own lie
    if os.environ.get("LOCAL_RANK", "0") != "0":  # of a run on several devices: its first process has started this one
        end_with_parent(int(os.environ.get(FIRST, os.getppid())))  # which may have ended before this one began
        _say_nothing()  # the first one does
    if command in FORKING:  # before anything reads the two
        os.environ.setdefault("OMP_NUM_THREADS", "1")  # until a training says how many
        os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # to ask for CUDA must not initialise it
    try:
        if odd := [each for each in rest if re.fullmatch("-[^=]*=--", each)]:  # argparse makes an empty list of it
            raise UserError(f"{odd[0]} says nothing: give a value.")  # noqa: TRY301 - said below
        module = import_module(f"xmodal.{COMMANDS[command][0]}")
        status = int(module.main(command, rest) if COMMANDS[command][0] == "run" else module.main(rest))
        sys.stdout.flush()
    except UserError as error:
        sys.stderr.write(f"xmodal {command}: {' '.join(str(error).splitlines())}\n")
        return 2
    except BrokenPipeError:  # whoever read the output has had enough, such as `| head`
        _say_nothing()
        return 141  # as a shell says it
    except OSError as error:
        name = error.filename2 or error.filename  # of a copy the one that is written
        where = f" {repr(str(name))[:200]}" if name else ""
        if error.errno in CANNOT_WRITE:
            where, hint = f" write{where}", " Make room or make it writable."
        elif where:  # such as a name that is too long
            where, hint = f" use{where}", ""
        else:
            raise
        sys.stderr.write(f"xmodal {command}: cannot{where}: {error.strerror}.{hint}\n")
        return 2
    except (MemoryError, RuntimeError) as error:  # torch has an error of its own for a GPU's memory only
        text = " ".join(str(error).split())
        if not isinstance(error, MemoryError) and not re.search("out of memory|(enough|allocate) memory", text):
            raise
        sys.stderr.write(f"xmodal {command}: the memory is too small ({text[:160]}): take smaller sizes or batches\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"xmodal {command}: interrupted; the same command goes on from here\n")
        return 130
    return status


def _say_nothing() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
