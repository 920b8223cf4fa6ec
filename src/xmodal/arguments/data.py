"""Command lines of data and methods, and of the shell's completion."""

from argparse import ArgumentParser

from xmodal.arguments.common import DATA, named

PREPARED = {  # options of `prepare` are arguments of the dataset
    **dict.fromkeys(("protocol", "dialect", "selection"), str),
    **dict.fromkeys(("query", "train", "val", "max_corrupt"), int),
}


def prepare() -> ArgumentParser:
    """See `xmodal.commands.prepare`."""
    words = "Check and convert a dataset, encode it once, and say what there is."
    own = named("prepare", words, "xmodal prepare mirflickr25k --protocol dcmh")
    own.add_argument(
        "name", help="of the dataset: `xmodal datasets` lists them; or a YAML file of your own data"
    ).complete = DATA  # type: ignore[attr-defined]
    own.add_argument("--root", help="its folder; default: $XMODAL_DATA/NAME or data/NAME")
    for option, kind in PREPARED.items():
        own.add_argument(f"--{option}", type=kind, help="as the dataset's argument of this name")
    return own


def datasets() -> ArgumentParser:
    """See `xmodal.commands.datasets`."""
    own = named("datasets", "A line for every dataset, or everything about one.", "xmodal datasets mirflickr25k")
    own.add_argument("name", nargs="?", help="of one dataset")
    own.add_argument("--protocols", action="store_true", help="the table of protocols that docs/datasets.md shows")
    return own


def methods() -> ArgumentParser:
    """See `xmodal.commands.methods`."""
    words = "Every method of the suite, and those of your own with experiment files: outputs, what it reads, paper."
    return named("methods", words, "xmodal methods")


def init() -> ArgumentParser:
    """See `xmodal.commands.init`."""
    words = (
        "Without anything: copy the experiment and sweep files of the package into the working folder, where they go "
        "before the package's. Nothing that is there is written over."
    )
    own = named("init", words, "xmodal init data photos captions.csv; then: xmodal train dcmh photos.yaml --bits 64")
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
    own = named("completion", "Print a script that completes the commands.", 'eval "$(xmodal completion bash)"')
    own.add_argument("shell", choices=("bash", "zsh"), help="whose script")
    return own
