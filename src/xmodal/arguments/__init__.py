"""The command line of every command, in one place that imports nothing heavy: `--help` answers at once.

Shell completion is made of the same parsers. A function without arguments in `runs`, `codes` or `data` has the name of
its command.
"""

import inspect
from argparse import ArgumentParser
from collections.abc import Callable

from xmodal.arguments import codes, data, runs

COMMANDS: dict[str, Callable[[], ArgumentParser]] = {
    name: made
    for group in (runs, codes, data)
    for name, made in inspect.getmembers(group, inspect.isfunction)
    if not inspect.signature(made).parameters and inspect.signature(made).return_annotation is ArgumentParser
}


def parser(command: str) -> ArgumentParser:
    """The command line of a command."""
    return COMMANDS[command]()
