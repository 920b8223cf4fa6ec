"""`xmodal methods`: every method, what its outputs are, what it reads, and its paper."""

import inspect
import re
import sys
from collections.abc import Sequence
from typing import Any

from xmodal import arguments, paths
from xmodal.experiment import PATTERN, method_class, size_names
from xmodal.safe_yaml import read_yaml


def main(argv: Sequence[str]) -> int:
    """List the methods of the suite and those of your own that have experiment files in the working folder.

    Example: `xmodal methods`, then `xmodal train dcmh emoji --bits 64`.
    """
    arguments.parser("methods").parse_args(list(argv))
    from xmodal import methods

    own = {path.parent.name for path in paths.experiments().glob("*/*.yaml")}
    for name in dict.fromkeys([*methods.registry(), *sorted(own - {"tuned"})]):
        found = method_class(name)
        if found is not None:
            read = ", ".join(reads(name, found))
            sys.stdout.write(f"{name:26} {kind(name):20} reads {read}\n{'':27}{paper(found)}\n")
    return 0


def kind(method: str) -> str:
    """What a method's outputs are, by the argument that sets their size."""
    return " or ".join({"bits": "codes", "dim": "embeddings"}[name] for name in size_names(method))


def reads(name: str, method: Any) -> list[str]:  # noqa: ANN401 - a method's class
    """What a method reads beside a feature of each side: labels, tokens, layers of a hierarchy, pictures."""
    takes = inspect.signature(method).parameters
    file = paths.found(paths.experiments() / name / f"{PATTERN}.yaml")
    data = (read_yaml(file)["data"] if file.is_file() else {}).get("init_args", {})
    there = {
        "labels": method.supervised,
        "layers of labels": "layer_sizes" in takes,
        "tokens": data.get("tokens", False),
        "pictures and words, with trunk_lr": "trunk_lr" in takes,
    }
    return ["features", *(words for words, so in there.items() if so)]


def paper(method: Any) -> str:  # noqa: ANN401 - a method's class
    """Authors, title, venue and year, from the head of the method's file; else its first line."""
    head = " ".join((sys.modules[method.__module__].__doc__ or "").partition("\n\n")[2].split())
    cited = re.match(r"(.*?\"[^\"]+\".*?\b(?:19|20)\d\d\b|[^.;]*?\b(?:19|20)\d\d\b)", head)
    return cited[1] if cited else (sys.modules[method.__module__].__doc__ or "").partition("\n")[0]
