"""The command line of every command, in one place that imports nothing heavy: `--help` answers at once.

Shell completion is made of the same parsers. A function here has the name of its command.
"""

import inspect
import sys
from argparse import ArgumentParser
from pathlib import Path

from xmodal import paths

SAMPLERS = ("tpe", "gp", "random", "grid", "cmaes")
PRUNERS = ("none", "median", "percentile", "halving", "hyperband", "threshold")
AGAINST = ("size", "latency")
METHODS, DATA = (dict.fromkeys(("bash", "zsh"), f"_xmodal_{kind}") for kind in ("methods", "data"))  # see `completion`
PREPARED = {  # options of `prepare` are arguments of the dataset
    **dict.fromkeys(("protocol", "dialect", "selection"), str),
    **dict.fromkeys(("query", "train", "val", "max_corrupt"), int),
}


def method_names() -> list[str]:
    """Methods with experiment files in the working folder or the package."""
    return sorted({path.parent.name for path in paths.listed(paths.experiments(), "*/*.yaml")})


def data_names() -> list[str]:
    """Datasets with experiment files in the working folder or the package."""
    return sorted({path.stem for path in paths.listed(paths.experiments(), "*/*.yaml")})


def parser(command: str) -> ArgumentParser:
    """The command line of a command."""
    made: ArgumentParser = globals()[command]()
    return made


def commands() -> list[str]:
    """The commands: the functions here that give a parser and need nothing."""
    found = inspect.getmembers(sys.modules[__name__], inspect.isfunction)
    signatures = {name: inspect.signature(each) for name, each in found if not name.startswith("_")}
    return [
        name for name, each in signatures.items() if not each.parameters and each.return_annotation is ArgumentParser
    ]


def _parser(name: str, words: str, example: str) -> ArgumentParser:
    return ArgumentParser(prog=f"xmodal {name}", description=words, epilog=f"Example: {example}", allow_abbrev=False)


def _pair(own: ArgumentParser, *, several: bool = False, needed: bool = True) -> None:
    """METHOD and DATA."""
    more = "; several as dmsf,dcmh; or all" if several else ""
    words = f"one of {', '.join(method_names())}; or a class of your own, as my_package.MyMethod or my_method.py{more}"
    own.add_argument("method", nargs=None if needed else "?", help=words).complete = METHODS  # type: ignore[attr-defined]
    words = f"one of {', '.join(data_names())}; or a YAML file of your own data, as `xmodal init data` writes it"
    own.add_argument("data", nargs=None if needed else "?", help=words).complete = DATA  # type: ignore[attr-defined]


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
    own = _parser(name, f"{words} The last line on stdout is the path of the run's result.json. {keys}", example)
    _pair(own, needed=False)
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
    own = _parser("sweep", words, "xmodal sweep dmsf emoji --bits 16,32,64 --trials 24")
    _pair(own, several=True)
    _run(own)
    own.add_argument("--trials", help="finished trials the study shall have in the end; default: the sweep file's")
    own.add_argument("--minutes", help="start no trial after so many minutes; without --trials nothing else ends it")
    own.add_argument("--sampler", help=f"{', '.join(SAMPLERS)}; default: the sweep file's")
    own.add_argument("--sampler_seed", help="seed of the sampler; default: the sweep file's")
    own.add_argument("--pruner", help=f"{', '.join(PRUNERS)}; default: the sweep file's")
    own.add_argument("--warm_start", type=Path, help="experiment file, such as a tuned one, that is tried first")
    own.add_argument("--against", choices=AGAINST, help="search the Pareto front of val/map against this")
    own.add_argument("--workers", default="1", help="trials that run side by side; each has GPUs of its own")
    own.add_argument("--storage", help="URL of the study database; default: SQLite under runs/")
    own.add_argument("--jobs", help="search in so many jobs, of SLURM where there is one; docs/how-to/sweeps.md")
    own.add_argument("--job", action="append", default=[], help="a setting of submitit, such as slurm_partition=gpu")
    return own


def _grid(name: str, words: str, example: str) -> ArgumentParser:
    own = _parser(name, f"{words} Any key of the configuration may follow, for all runs.", example)
    _pair(own, several=True)
    _run(own, seed=False)
    own.add_argument("--seeds", default="0,1,2", help="seeds of every row; default: 0,1,2")
    own.add_argument("--workers", default="1", help="runs that go side by side, dealt out over the GPUs; default: 1")
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


def plots() -> ArgumentParser:
    """See `xmodal.commands.plots`."""
    words = (
        "Draw the importance of a study's parameters and their parallel coordinates, and precision over recall of the "
        "plain and tuned runs at its size; with --against, the front of that study. Prints the paths."
    )
    own = _parser("plots", words, "xmodal plots dmsf emoji --bits 64")
    _pair(own)
    own.add_argument("--bits", help="code length of a binary method; several with --against")
    own.add_argument("--dim", help="embedding size of a real-valued method; several with --against")
    own.add_argument("--against", choices=AGAINST, help="draw the front of val/map against this")
    own.add_argument("--storage", help="URL of the study database; default: SQLite under runs/")
    return own


def smoke() -> ArgumentParser:
    """See `xmodal.commands.smoke`."""
    words = "Train and evaluate every method, or those named, for an epoch on 64 pairs."
    own = _parser("smoke", words, "xmodal smoke my_method.py --data my.yaml")
    own.add_argument("methods", nargs="*", help="names, or classes of your own; default: all of the suite")
    own.add_argument("--data", default="emoji", help="a dataset, or a YAML file of your own data; default: emoji")
    return own


def compare() -> ArgumentParser:
    """See `xmodal.commands.compare`."""
    words = "mAP@all on the query set of the runs at hand, as a table here and as a page with tests, plots, galleries."
    own = _parser("compare", words, "xmodal compare --methods dmsf,dcmh --data emoji --bits 64")
    own.add_argument("--methods", metavar="NAME[,NAME]", help="methods to compare; default: all")
    own.add_argument("--data", metavar="NAME[,NAME]", help="datasets, or YAML files of your own data; default: all")
    own.add_argument("--bits", metavar="N[,N]", help="sizes, in bits of a code or dimensions; default: all")
    own.add_argument("--format", choices=("text", "markdown", "csv"), default="text", help="of the table")
    return own


def dashboard() -> ArgumentParser:
    """See `xmodal.commands.dashboard`."""
    own = _parser("dashboard", "Serve the studies on this machine until interrupted.", "xmodal dashboard --port 8080")
    own.add_argument("--storage", help="URL of the study database; default: SQLite under runs/")
    own.add_argument("--port", default="8080", help="on 127.0.0.1")
    return own


def sync() -> ArgumentParser:
    """See `xmodal.commands.sync`."""
    words = "Upload to W&B all offline runs that have not been uploaded; options of `wandb sync` may follow."
    return _parser("sync", words, "xmodal sync")


def workspace() -> ArgumentParser:
    """See `xmodal.commands.workspace`."""
    words = "Save a W&B view that groups runs by setup, so that it shows mean and spread over seeds."
    own = _parser("workspace", words, "xmodal workspace --entity my_team")
    own.add_argument("--entity", help="user or team; default: yours")
    own.add_argument("--name", default="xmodal: methods, ablations, seeds", help="of the view")
    return own


def evaluate() -> ArgumentParser:
    """See `xmodal.commands.evaluate`."""
    words = "Every retrieval metric, with its convention, of codes or embeddings in files."
    own = _parser("evaluate", words, "xmodal evaluate mine.npz theirs.mat")
    own.add_argument(
        "files", metavar="FILE", nargs="+", type=Path, help=".npz, .mat, .h5 ...; two are compared as well"
    )
    own.add_argument("--json", action="store_true", help="print JSON, numbers at full precision")
    return own


def prepare() -> ArgumentParser:
    """See `xmodal.commands.prepare`."""
    words = "Check and convert a dataset, encode it once, and say what there is."
    own = _parser("prepare", words, "xmodal prepare mirflickr25k --protocol dcmh")
    own.add_argument(
        "name", help="of the dataset: `xmodal datasets` lists them; or a YAML file of your own data"
    ).complete = DATA  # type: ignore[attr-defined]
    own.add_argument("--root", help="its folder; default: $XMODAL_DATA/NAME or data/NAME")
    for option, kind in PREPARED.items():
        own.add_argument(f"--{option}", type=kind, help="as the dataset's argument of this name")
    return own


def datasets() -> ArgumentParser:
    """See `xmodal.commands.datasets`."""
    own = _parser("datasets", "A line for every dataset, or everything about one.", "xmodal datasets mirflickr25k")
    own.add_argument("name", nargs="?", help="of one dataset")
    own.add_argument("--protocols", action="store_true", help="the table of protocols that docs/datasets.md shows")
    return own


def methods() -> ArgumentParser:
    """See `xmodal.commands.methods`."""
    words = "Every method of the suite, and those of your own with experiment files: outputs, what it reads, paper."
    return _parser("methods", words, "xmodal methods")


def init() -> ArgumentParser:
    """See `xmodal.commands.init`."""
    words = (
        "Without anything: copy the experiment and sweep files of the package into the working folder, where they go "
        "before the package's. Nothing that is there is written over."
    )
    own = _parser("init", words, "xmodal init data photos captions.csv; then: xmodal train dcmh photos.yaml --bits 64")
    kinds = own.add_subparsers(dest="kind", metavar="data|method|dataset")
    _init_data(kinds.add_parser("data", help="look at a folder of pictures and a table, and write the dataset's YAML"))
    for kind in ("method", "dataset"):
        each = kinds.add_parser(
            kind, help=f"write a short {kind} that works, to start from", epilog=f"Example: xmodal init {kind} mine"
        )
        each.add_argument("name", help=f"of the {kind}, such as my_{kind}")
    return own


def _init_data(own: ArgumentParser) -> None:
    own.epilog = "Example: xmodal init data photos captions.csv --label tags --separator '|'"
    own.add_argument("pictures", help="folder of pictures; or the table itself where they are inside of it")
    own.add_argument("table", nargs="?", help="CSV, TSV, JSON Lines, Parquet, COCO's JSON, or tar shards")
    own.add_argument("--name", help="of the dataset; default: the folder's")
    for kind in ("file", "text", "split"):
        own.add_argument(f"--{kind}", help=f"column of the {kind}; default: looked for")
    own.add_argument("--label", help="column of the classes, several as a,b,c, or none; default: looked for")
    own.add_argument("--separator", help="between several classes in a cell; default: looked for")
    own.add_argument("--layers", help="between the layers of a class such as animal/bird/owl; default: looked for")
    own.add_argument("--database", choices=("test", "train"), default="test", help="what queries are searched in")


def completion() -> ArgumentParser:
    """See `xmodal.commands.completion`."""
    own = _parser("completion", "Print a script that completes the commands.", 'eval "$(xmodal completion bash)"')
    own.add_argument("shell", choices=("bash", "zsh"), help="whose script")
    return own
