"""Classes, functions and files of one's own: how they are named, found and known again."""

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from xmodal.checks import parameters_of
from xmodal.code import own_code
from xmodal.errors import UserError
from xmodal.records.record import leaves


def own_class(given: str, kind: str) -> Any:  # noqa: ANN401 - a method or a data module
    """A class of one's own, of which `kind` (`model` or `data`) says the base.

    Args:
        given: `package.module.Class`, `file.py` or `file.py:Class`.
        kind: see above.

    Raises:
        UserError: the module cannot be imported, or has no such class.
    """
    from xmodal.keys import BASES

    base, words = BASES[kind], {"model": "method", "data": "data module"}[kind]
    place, _, name = given.partition(":") if ".py" in given else given.rpartition(".")
    module = _module(place, given)
    own = {
        each.__name__: each
        for each in vars(module).values()
        if isinstance(each, type) and issubclass(each, base) and (each.__module__ == module.__name__ or name)
    }
    if name not in own and (name or len(own) != 1):
        there = f"it has {', '.join(own)}" if own else f"a {words} is a subclass of {base.__module__}.{base.__name__}"
        raise UserError(f"{given} names no {words}: {there}.")
    found = own[name or next(iter(own))]
    lacking = [each for each in dir(found) if getattr(getattr(found, each), "__isabstractmethod__", False)]
    if lacking:
        raise UserError(f"{found.__name__} in {given} lacks {', '.join(lacking)}.")
    own_code(found)  # as it is imported
    return named(found)


def named(found: Any) -> Any:  # noqa: ANN401 - a method or a data module
    """A class that has a `name` of its own.

    Raises:
        UserError: it has none, or that of another class, whose runs, tuned files and rows would then be its own too.
    """
    from xmodal import data, methods

    suite = (*methods.registry().values(), *data.registry().values())
    name = getattr(found, "name", None)
    others = [each for each in (*found.__mro__[1:], *suite) if each is not found and vars(each).get("name") == name]
    if not name or (others and "name" not in parameters_of(found)):
        its = f"; {name} is {others[0].__module__}.{others[0].__name__}" if name else ""
        raise UserError(f"{found.__module__}.{found.__qualname__} lacks a `name` of its own{its}.")
    return found


def _module(place: str, given: str) -> ModuleType:
    """Import a module by its name or its file, whose folder the processes that train search as well."""
    file = Path(place).resolve() if place.endswith(".py") else None
    if file:
        if not file.is_file():
            raise UserError(f"there is no file {place}.")
        folder, place = str(file.parent), file.stem
        if folder not in sys.path:
            sys.path.append(folder)
        searched = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        if folder not in searched:
            os.environ["PYTHONPATH"] = os.pathsep.join([*filter(None, searched), folder])
    try:
        module = import_module(place)
    except Exception as error:  # whatever stands in it
        raise UserError(f"{given} cannot be imported: {type(error).__name__}: {str(error)[:120]}.") from error
    if file and Path(module.__file__ or "").resolve() != file:
        raise UserError(f"{given}: the module {place} is already {module.__file__}; give the file another name.")
    return module


def is_own(given: str) -> bool:
    """Whether a method or data are named by a class or a file."""
    return "." in given


def imported(class_path: str) -> Any:  # noqa: ANN401 - a method or a data module
    """The class of a full name, as configurations hold it.

    Raises:
        ImportError: there is no such module.
        AttributeError: the module has no such class.
    """
    module, _, name = class_path.rpartition(".")
    return getattr(import_module(module), name)


def own_files(config: Mapping[str, Any]) -> dict[str, str]:
    """Hashes of the files of one's own that a configuration, or a part of it, names: classes, functions, weights."""
    from xmodal.data.readers.checksums import weights_hashes

    files = weights_hashes(leaves(config.get("data") or {}, "data."))
    return own_code(*(imported(path) for path in dict.fromkeys(_class_paths(config)) if is_own(path))) | files


def _class_paths(tree: Any) -> Iterator[str]:  # noqa: ANN401 - what a configuration holds
    """Of every class in a configuration, and of the functions that it names: they are imported by then."""
    for each in tree.values() if isinstance(tree, Mapping) else tree if isinstance(tree, list) else ():
        yield from _class_paths(each)
    if isinstance(tree, Mapping) and isinstance(tree.get("class_path"), str):
        yield tree["class_path"]
    path = f"{tree.__module__}.{tree.__qualname__}" if isinstance(tree, FunctionType) else tree
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if isinstance(getattr(sys.modules.get(module), name, None), FunctionType):
        yield path
