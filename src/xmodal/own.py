"""Classes, functions and files of one's own: how they are named, found and known again."""

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from xmodal.checks import parameters_of
from xmodal.code import own_code
from xmodal.errors import UserError
from xmodal.records.record import leaves

if TYPE_CHECKING:  # importing it takes seconds
    from xmodal.methods import RetrievalMethod


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


def method_of(config: Mapping[str, Any], saved: Mapping[str, Any]) -> "RetrievalMethod":
    """The method of a run as its configuration and a checkpoint make it, ready to encode.

    Args:
        config: the run's `model`.
        saved: the checkpoint, as `read_checkpoint` gives it.
    """
    from xmodal.keys import arguments_of, built
    from xmodal.methods import RetrievalMethod

    takes, held = arguments_of(imported(config["class_path"])), saved["hyper_parameters"]
    arguments = config["init_args"] | {name: held[name] for name in takes if name in held}  # the data's sizes too
    method: RetrievalMethod = built(RetrievalMethod, {"class_path": config["class_path"], "init_args": arguments})
    method.on_load_checkpoint(dict(saved))
    method.load_state_dict(saved["state_dict"])
    return method.eval()


def tell_of_others(trainer: Any, config: Mapping[str, Any], best: Path) -> None:  # noqa: ANN401 - Lightning's
    """Say where a method of one's own gives other outputs by its checkpoint alone than its test has ranked.

    Exports, indexes and searches have no more than that: no hook, no callback, no attribute that training has set.

    Args:
        trainer: after the test, whose first queries are encoded once more.
        config: the run's `model`.
        best: the checkpoint.
    """
    import torch
    from torch.nn.functional import normalize

    from xmodal.batch import SIDES
    from xmodal.checkpoint import read_checkpoint

    ranked, told = trainer.lightning_module.test_metrics["retrieval"].outputs, ""
    try:
        method = method_of(config, read_checkpoint(best)).to(trainer.strategy.root_device)
        batch = next(iter(trainer.datamodule.batches("query")))
        rows = (batch["index"].cpu()[:, None] == ranked["query_index"].cpu()).nonzero()[:, 1]
        for side in SIDES:
            with torch.inference_mode(), trainer.precision_plugin.forward_context():
                features = method.trunks[side](batch[side]) if side in method.trunks else batch[side]
                found, was = method.encode(side, features).float().cpu(), ranked[f"query_{side}"][rows].float().cpu()
            same = (
                (found < 0) == (was < 0)
                if method.kind == "binary"
                else (normalize(found) - normalize(was)).abs() < 0.01
            )
            if (other := int((~same.all(1)).sum())) > len(rows) / 10:  # other sums, as of several devices, change fewer
                told = f"{other} of {len(rows)} {side} queries have other outputs"
    except Exception as error:  # whatever stands in it
        told = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    if told:
        sys.stderr.write(
            f"{trainer.lightning_module.name} encodes otherwise by its checkpoint alone than in its test ({told}), and "
            "exports, indexes and searches have no more: let encode read parameters and persistent buffers only\n"
        )


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
