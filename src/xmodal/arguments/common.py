"""What several command lines share."""

from argparse import ArgumentParser

from xmodal import paths

SAMPLERS = ("tpe", "gp", "random", "grid", "cmaes")
PRUNERS = ("none", "median", "percentile", "halving", "hyperband", "threshold")
AGAINST = ("size", "latency")
METHODS, DATA = (dict.fromkeys(("bash", "zsh"), f"_xmodal_{kind}") for kind in ("methods", "data"))  # see `completion`
FOLDERS = {"bash": "_shtab_compgen_dirs", "zsh": "_files -/"}  # shtab.DIRECTORY, without its import


def named(name: str, words: str, example: str) -> ArgumentParser:
    """A command line whose help shows an example."""
    return ArgumentParser(prog=f"xmodal {name}", description=words, epilog=f"Example: {example}", allow_abbrev=False)


def pair(own: ArgumentParser, *, several: bool = False, needed: bool = True) -> None:
    """METHOD and DATA."""
    more = "; several as dmsf,dcmh; or all" if several else ""
    words = f"one of {', '.join(paths.methods())}; or a class of your own, as my_package.MyMethod or my_method.py{more}"
    own.add_argument("method", nargs=None if needed else "?", help=words).complete = METHODS  # type: ignore[attr-defined]
    words = f"one of {', '.join(paths.datasets())}; or a YAML file of your own data, as `xmodal init data` writes it"
    own.add_argument("data", nargs=None if needed else "?", help=words).complete = DATA  # type: ignore[attr-defined]
