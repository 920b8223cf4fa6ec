"""`xmodal completion bash|zsh`: a script that completes commands, options, methods and datasets."""

import re
import sys
from argparse import ArgumentParser
from collections.abc import Sequence

import shtab

from xmodal import arguments, paths

PREAMBLE = {  # names as they are now, and files for classes and data of one's own
    "bash": '{name}() {{ compgen -W "{words}" -- "$1"; compgen -f -- "$1"; }}\n',
    "zsh": "{name}() {{ _alternative 'names:name:({words})' 'files:file:_files' }}\n",
}


def main(argv: Sequence[str]) -> int:
    """Print the script; `eval "$(xmodal completion bash)"` in a shell's start file uses it."""
    options = arguments.parser("completion").parse_args(list(argv))
    known = {"_xmodal_methods": paths.methods(), "_xmodal_data": paths.datasets()}
    preamble = "".join(
        PREAMBLE[options.shell].format(
            name=name, words=" ".join(word for word in words if re.fullmatch(r"[\w.-]+", word))
        )
        for name, words in known.items()
    )
    sys.stdout.write(shtab.complete(whole(), shell=options.shell, preamble=preamble))
    return 0


def whole() -> ArgumentParser:
    """One parser with all commands below it."""
    own = ArgumentParser(prog="xmodal")
    below = own.add_subparsers()
    for name in arguments.COMMANDS:
        made = arguments.parser(name)
        below.add_parser(name, parents=[made], add_help=False, help=(made.description or "").partition(". ")[0])
    return own
