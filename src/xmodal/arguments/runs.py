"""Command lines of trainings and of what comes of them."""

from argparse import ArgumentParser
from pathlib import Path

from xmodal.arguments.common import AGAINST, PRUNERS, SAMPLERS, named, pair

TABLED, SIZES = "emoji,wikipedia,fashion,flickr8k", "16,32,64,128"  # of `table`
TRIALS, SEEDS = "24", "0,1,2,3,4"

WORKERS = "a number, or auto: what cores and free memory hold; GPUs are dealt out; default: 1"


def _run(own: ArgumentParser, *, seed: bool = True) -> None:
    """The short options that `train`, `sweep`, `ablate` and `bits` share; those of several seeds leave `seed` out."""
    own.add_argument("--bits", help="code length of a binary method")
    own.add_argument("--dim", help="embedding size of a real-valued method")
    if seed:
        own.add_argument("--seed", help="seed of the run")
    else:
        own.set_defaults(seed=None)
    own.add_argument("--epochs", help="number of epochs")
    own.add_argument("--devices", help="number of devices")


def _one_run(name: str, words: str, example: str) -> ArgumentParser:
    keys = "Any key of the configuration may follow, such as --model.lr=0.001; --print_config shows them all."
    own = named(name, f"{words} Prints its mAP, and in the last line the path of its result.json. {keys}", example)
    pair(own, needed=False)
    own.add_argument("--config", "-c", action="append", default=[], help="further files of the configuration")
    _run(own)
    own.add_argument("--overwrite", action="store_true", help="replace a run of another configuration in its folder")
    return own


def train() -> ArgumentParser:
    """See `xmodal.run`."""
    return _one_run(
        "train", "Fit one run and evaluate it once on the query set.", "xmodal train dmsf emoji --bits 64 --seed 1"
    )


def fit() -> ArgumentParser:
    """See `xmodal.run`."""
    return _one_run("fit", "Fit one run and leave the query set closed.", "xmodal fit dmsf emoji --bits 64")


def test() -> ArgumentParser:
    """See `xmodal.run`."""
    example = "xmodal test --ckpt_path runs/dmsf/emoji/64/seed0/checkpoints/best.ckpt"
    own = _one_run("test", "Evaluate a checkpoint on the query set.", example)
    own.add_argument("--ckpt_path", type=Path, required=True, help="of an earlier run, under its checkpoints/")
    return own


def sweep() -> ArgumentParser:
    """See `xmodal.commands.sweep`."""
    words = (
        "Search a method's space (sweeps/<method>.yaml) on the validation pairs, write the best trial as an experiment "
        "file, evaluate it once on the query set; ends with a table of bits and directions. The same command goes on "
        "after any interruption."
    )
    own = named("sweep", words, "xmodal sweep dmsf emoji --bits 16,32,64 --trials 24")
    pair(own, several=True)
    _run(own)
    own.add_argument("--trials", help="finished trials the study shall have in the end; default: the sweep file's")
    own.add_argument("--minutes", help="for each study, then no trial starts; without --trials nothing else ends it")
    own.add_argument("--sampler", help=f"{', '.join(SAMPLERS)}; default: the sweep file's")
    own.add_argument("--sampler_seed", help="seed of the sampler; default: the sweep file's")
    own.add_argument("--pruner", help=f"{', '.join(PRUNERS)}; default: the sweep file's")
    own.add_argument("--warm_start", type=Path, help="experiment file, such as a tuned one, that is tried first")
    own.add_argument("--against", choices=AGAINST, help="search the Pareto front of val/map against this")
    own.add_argument("--workers", default="1", help=f"trials that run side by side; {WORKERS}")
    own.add_argument("--storage", help="URL of the study database; default: SQLite under runs/")
    own.add_argument("--jobs", help="search in so many jobs, of SLURM where there is one; docs/how-to/sweeps.md")
    own.add_argument("--job", action="append", default=[], help="a setting of submitit, such as slurm_partition=gpu")
    return own


def _grid(name: str, words: str, example: str) -> ArgumentParser:
    own = named(name, f"{words} Any key of the configuration may follow, for all runs.", example)
    pair(own, several=True)
    _run(own, seed=False)
    own.add_argument("--seeds", default="0,1,2", help="seeds of every row; default: 0,1,2")
    own.add_argument("--workers", default="1", help=f"runs that go side by side; {WORKERS}")
    own.add_argument("--overwrite", action="store_true", help="replace runs of other configurations in their folders")
    return own


def ablate() -> ArgumentParser:
    """See `xmodal.commands.ablate`."""
    words = (
        "Run the full method (the tuned file of that size where there is one, else the experiment file) and its "
        "variants, experiments/<method>/ablations. Finished runs are used again. Ends with a table, also as Markdown, "
        "CSV and LaTeX."
    )
    return _grid("ablate", words, "xmodal ablate dmsf emoji --bits 64 --seeds 0,1,2")


def bits() -> ArgumentParser:
    """See `xmodal.commands.bits`."""
    words = (
        "Run each length with the file tuned for it; else with that of the nearest length, `bits` changed; else with "
        "the experiment file. Embeddings take --dim. Finished runs are used again. Ends with a table and two figures."
    )
    return _grid("bits", words, "xmodal bits dmsf emoji --bits 16,32,64,128")


def table() -> ArgumentParser:
    """See `xmodal.commands.table`."""
    words = (
        "Fill and write the tables of README and docs/results.md: every method on every dataset at every size. A cell "
        "is searched with the same budget on validation pairs, then its best trial is run under every seed and "
        "evaluated once on the query set. A killed command goes on; one that has nothing to do only writes the tables."
    )
    own = named("table", words, "xmodal table --methods dmsf,dcmh --data emoji --sizes 16,64 --list")
    own.add_argument("--methods", help="separated by commas; default: all with a search space, and closed forms")
    own.add_argument("--data", default=TABLED, help=f"datasets; default: {TABLED}")
    own.add_argument("--sizes", default=SIZES, help=f"bits of codes and dimensions of embeddings; default: {SIZES}")
    own.add_argument("--trials", default=TRIALS, help=f"of every search; default: {TRIALS}")
    own.add_argument("--seeds", default=SEEDS, help=f"of every cell; default: {SEEDS}")
    own.add_argument("--epochs", help="of every training; default: the experiment file's")
    own.add_argument("--workers", default="1", help=f"trainings that go side by side; {WORKERS}")
    own.add_argument("--devices", help="of each training; default: 1")
    own.add_argument("--list", action="store_true", help="name the cells and whether they are filled; run nothing")
    own.set_defaults(seed=None)
    return own


def plots() -> ArgumentParser:
    """See `xmodal.commands.plots`."""
    words = (
        "Draw the importance of a study's parameters and their parallel coordinates, and precision over recall of the "
        "plain and tuned runs at its size; with --against, the front of that study. Prints the paths."
    )
    own = named("plots", words, "xmodal plots dmsf emoji --bits 64")
    pair(own)
    own.add_argument("--bits", help="code length of a binary method; several with --against")
    own.add_argument("--dim", help="embedding size of a real-valued method; several with --against")
    own.add_argument("--against", choices=AGAINST, help="draw the front of val/map against this")
    own.add_argument("--storage", help="URL of the study database; default: SQLite under runs/")
    return own


def smoke() -> ArgumentParser:
    """See `xmodal.commands.smoke`."""
    words = "Train and evaluate every method, or those named, for an epoch on 64 pairs."
    own = named("smoke", words, "xmodal smoke my_method.py --data my.yaml")
    own.add_argument("methods", nargs="*", help="names, or classes of your own; default: all of the suite")
    own.add_argument("--data", default="emoji", help="a dataset, or a YAML file of your own data; default: emoji")
    return own


def compare() -> ArgumentParser:
    """See `xmodal.commands.compare`."""
    words = "mAP@all on the query set of the runs at hand, as a table here and as a page with tests, plots, galleries."
    own = named("compare", words, "xmodal compare --methods dmsf,dcmh --data emoji --bits 64")
    own.add_argument("--methods", metavar="NAME[,NAME]", help="methods to compare; default: all")
    own.add_argument("--data", metavar="NAME[,NAME]", help="datasets, or YAML files of your own data; default: all")
    own.add_argument("--bits", metavar="N[,N]", help="sizes, in bits of a code or dimensions; default: all")
    own.add_argument("--format", choices=("text", "markdown", "csv"), default="text", help="of the table")
    return own


def dashboard() -> ArgumentParser:
    """See `xmodal.commands.dashboard`."""
    own = named("dashboard", "Serve the studies on this machine until interrupted.", "xmodal dashboard --port 8080")
    own.add_argument("--storage", help="URL of the study database; default: SQLite under runs/")
    own.add_argument("--port", default="8080", help="on 127.0.0.1")
    return own


def sync() -> ArgumentParser:
    """See `xmodal.commands.sync`."""
    words = "Upload to W&B all offline runs that have not been uploaded; options of `wandb sync` may follow."
    return named("sync", words, "xmodal sync")


def workspace() -> ArgumentParser:
    """See `xmodal.commands.workspace`."""
    words = "Save a W&B view that groups runs by setup, so that it shows mean and spread over seeds."
    own = named("workspace", words, "xmodal workspace --entity my_team")
    own.add_argument("--entity", help="user or team; default: yours")
    own.add_argument("--name", default="xmodal: methods, ablations, seeds", help="of the view")
    return own
