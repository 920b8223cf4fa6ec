"""Keys of the configuration as people type them: only whole ones, and what is wrong with a value in one line."""

import re
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from types import UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from jsonargparse import ArgumentParser
from lightning import Trainer

from xmodal import data, methods
from xmodal.checks import WORDS, words_of
from xmodal.errors import UserError
from xmodal.records.record import PER_RUN, header, is_edited, searched
from xmodal.records.setups import is_plain
from xmodal.safe_yaml import parse_yaml, read_yaml

BASES: dict[str, Any] = {"model": methods.RetrievalMethod, "data": data.CrossModalDataModule}
LENGTH = 200  # of a line that says what is wrong
UNTUNED = ("model.class_path", "model.bits", "model.dim")
ANYWHERE = ("trainer.devices", "trainer.num_nodes", "trainer.accelerator", "trainer.default_root_dir")
RENAMED = {"xmodal.graphs.CudaGraphs": "xmodal.cuda_graphs.CudaGraphs"}
Settings = dict[str, Any]


class Given:
    """What a command line sets, files included: `settings` has the last value of every key, without `init_args`.

    `overrides` are those that the command itself, or a further file that it names, gave another value than its files,
    but for a run's own, the size and where it runs. `trials` says in how many finished ones a sweep has searched the
    values of a tuned file, whose text is kept, for it may be written anew meanwhile; None where none says so.

    Args:
        parser: of the whole configuration.
        arguments: of a command line, the files as `--config`.
        linked: keys that are derived, and from what.

    Raises:
        UserError: a key is none of the configuration, or derived; a class is not known; or a file is unusable.
    """

    def __init__(self, parser: ArgumentParser, arguments: Sequence[str], linked: Mapping[str, str]) -> None:
        self.settings: Settings = {}
        self.tuned: tuple[Path, Settings] | None = None  # what a sweep wrote last, or the run of it, and what it sets
        filed, default, typed, further, files = Settings(), Settings(), set[str](), set[str](), 0
        for key, value in _pairs(arguments):
            if key == "config" and value is not None:
                tree = read_yaml(Path(value))
                if not isinstance(tree, dict):
                    raise UserError(f"{value} holds no configuration: write keys and values, such as `model:`.")
                self.settings |= (leaves := _leaves(tree))
                files += 1
                if Path(value).parent.name == "tuned":
                    self.tuned = Path(value), leaves
                    further |= filed.keys()  # which the search may not have had
                    filed = dict(default)
                elif is_plain(variant := str(leaves.get("variant", ""))) and variant != "base":  # the replay of its run
                    self.tuned = Path(value), leaves
                elif files > 2 and "variant" not in leaves:  # beside default.yaml and the experiment file; no replay
                    further |= leaves.keys()
                    continue
                filed |= leaves
                default = default or leaves  # the first file
            elif key is not None:
                tree = _tree(key, value)
                leaves = _leaves({f"{key}.class_path" if key in BASES and isinstance(tree, str) else key: tree})
                self.settings |= leaves
                typed |= leaves.keys()
        name = str(self.settings["variant"]) if "variant" in typed and not self.tuned else "base"
        if is_plain(name) and name != "base":
            raise UserError(f"variant is {name}, as runs of a tuned file are called: give the file, or another name.")
        typed = (typed | further) - {*PER_RUN, *ANYWHERE, "model.bits", "model.dim"}
        written = header(self.tuned[0]) if self.tuned else None
        self.trials = searched(self.tuned[0]) if self.tuned else None
        self.text = self.tuned[0].read_text("utf-8") if self.tuned else ""
        if written and "--epochs" in written["command"]:  # of the search, whose file holds them
            typed |= filed.keys() & {"trainer.max_epochs"}
            filed.pop("trainer.max_epochs", None)
        given = {key: self.settings[key] for key in sorted(typed)}
        self.overrides = {k: str(v) for k, v in given.items() if k not in filed or not _alike(v, filed[k])}
        known = _of_parser(parser)
        self.classes = {first: self._class(first) for first in BASES}
        for first, found in self.classes.items():
            known |= {f"{first}.{key}": kind for key, kind in (_of_class(found) if found else {}).items()}
        for key in self.settings:
            if key in linked:
                raise UserError(f"{key} is derived from {linked[key]}: leave it out.")
            _check(key, known)
            if new := RENAMED.get(str(self.settings[key])):
                raise UserError(f"{key.removesuffix('+')}: {self.settings[key]} is called {new} now.")
        self.known = known

    def _class(self, first: str) -> Any:  # noqa: ANN401 - a method or a data module
        name = self.settings.get(f"{first}.class_path")
        module = cast("Any", {"model": methods, "data": data}[first])
        if name is None:
            return None
        try:
            path, _, last = str(name).rpartition(".")
            found = getattr(import_module(path) if path else module, last)
        except (ImportError, AttributeError, ValueError):
            found = None
        if not isinstance(found, type) or not issubclass(found, BASES[first]) or found is BASES[first]:
            classes = [each for each in module.__all__ if isinstance(getattr(module, each), type)]
            near = get_close_matches(str(name).rpartition(".")[2], classes, 1, 0.4) or classes[:1]
            raise UserError(
                f"{first}.class_path is {str(name)[:60]!r}: no {'method' if first == 'model' else 'data module'}; such "
                f"as {module.__name__}.{near[0]}."
            )
        return found

    def called(self, variant: str, size: int) -> str:
        """What distinguishes a run: its variant, or what competing ones of a tuned file are called, replays included.

        `tuned`; `tuned-at-64` at another size than it was searched at; `tuned-edited` where the file is not as the
        sweep wrote it, or where the method has another value than the file says.

        Args:
            variant: as the configuration has it.
            size: of the run.
        """
        if self.tuned is None or not is_plain(variant):
            return variant
        file, own = self.tuned
        values = {key: value for key, value in own.items() if key.startswith("model.") and key not in UNTUNED}
        if is_edited(file) or not all(_alike(value, self.settings[key]) for key, value in values.items()):
            return "tuned-edited"
        searched = own.get("model.bits") or own.get("model.dim") or size  # which the name of a copy does not say
        was = str(own.get("variant", "tuned"))
        return f"tuned-at-{searched}" if searched != size and was == "tuned" else was

    def explain(self, error: Exception) -> str:
        """What a parser's error comes to: key, value and the values allowed, in at most `LENGTH` characters."""
        text = " ".join(str(error).split())
        key = ""
        for part in (found.replace("init_args.", "") for found in re.findall(r'Parser key "([^"]+)"', text)):
            if not key or part.startswith(f"{key}."):
                key = part
            elif not f".{key}".endswith(f".{part}"):  # of a parser inside, which does not know where it is
                key = f"{key}.{part}"
        given = {each.removesuffix("+").replace("init_args.", ""): value for each, value in self.settings.items()}
        if key not in self.known and not any(f"{each}.".startswith(f"{key}.") for each in given):
            nested = re.search(r"NestedArg\(key='([^']+)'", text)
            key = f"{key}.{nested[1].replace('init_args.', '')}" if nested else key
        below = [each for each in given if each == key or each.startswith(f"{key}.")]
        if not below:
            return _short(re.sub(r"unrecognized arguments?:", "not understood:", text))
        parts = {each.removeprefix(f"{key}."): given[each] for each in below}
        value = parts.get(key, parts)
        kind = self.known.get(key, Any)
        inner = [each for each in self.known if each.startswith(f"{key}.")]
        allowed = f"keys below it, such as {inner[0]}" if kind is Ellipsis and inner else words_of(kind)
        if not allowed and (choices := re.search(r"typing\.Literal\[([^\]]*)\]", text)):
            allowed = choices[1].replace("'", "")
        return _short(f"{key} is {_short(repr(value), 60)}" + (f"; give {allowed}." if allowed else "."))


def _alike(one: Any, other: Any) -> bool:  # noqa: ANN401 - of a file or of a command line
    """Whether two values are the same as numbers or as text."""
    try:
        return float(one) == float(other)
    except (TypeError, ValueError):
        return str(one).lower() == str(other).lower()


def _check(key: str, known: Mapping[str, Any]) -> None:
    """Refuse what is no whole key; below a key that takes a class of its own, the parser knows."""
    parts = key.removesuffix("+").split(".")
    if ".".join(parts) in known:
        return
    for end in range(len(parts) - 1, 0, -1):
        above = known.get(".".join(parts[:end]))
        if above is not None and above is not Ellipsis and _takes_class(above):
            return
    near = nearest(key, known)
    raise UserError(f"{_short(key, 80)!r} is no key of the configuration{f'; did you mean {near}?' if near else '.'}")


def nearest(key: str, known: Mapping[str, Any]) -> str | None:
    """The whole key that is most like one that is none."""
    whole = [each for each in known if known[each] is not Ellipsis]
    begun = sorted((each for each in known if key and each.startswith(key)), key=len)
    last = {each.rpartition(".")[2]: each for each in whole}
    close = get_close_matches(key, whole, 1, 0.75) or [
        last[each] for each in get_close_matches(key.rpartition(".")[2], last, 1, 0.7)
    ]
    return next(iter([*begun, *close]), None)


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str | None, str | None]]:
    """Keys, without `init_args`, and values; what is neither is left to the parser."""
    rest = list(arguments)
    while rest:
        token = rest.pop(0)
        if token == "-c" or (token.startswith("--") and token != "--"):
            key, equals, value = ("config" if token == "-c" else token[2:]).partition("=")
            if not equals and rest and not rest[0].startswith("--"):
                value, equals = rest.pop(0), "="
            if key not in ("help", "print_config") and not key.endswith(".help"):
                yield key, value if equals else None


def _tree(key: str, value: str | None) -> Any:  # noqa: ANN401 - what the value says
    """A value of the command line, read as a mapping where it is one or names a file of one."""
    if value is None:
        return None
    if key in ("model", "data", "trainer") and value.endswith((".yaml", ".yml", ".json")):
        return read_yaml(Path(value))
    if value.lstrip().startswith("{") or ("&" in value and "*" in value):  # an anchor and its alias
        found = parse_yaml(value, f"--{key}")
        return found if isinstance(found, dict) else value
    return value


def _leaves(tree: Mapping[str, Any], prefix: str = "") -> Settings:
    found: Settings = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        for first in BASES:
            name = re.sub(rf"^{first}\.init_args(\.|$)", f"{first}\\1", name)
        if isinstance(value, dict) and value:
            found |= _leaves(value, f"{name}.")
        else:
            found[name] = value
    return found


@cache
def _of_class(found: Any) -> Mapping[str, Any]:  # noqa: ANN401 - a method or a data module
    """Types of the arguments of a class by key; those of a dataclass among them one by one, itself as `...`."""
    kinds: dict[str, Any] = {"class_path": str}
    for owner in (each for each in found.__mro__ if "__init__" in vars(each)):
        hints, own = get_type_hints(owner.__init__), signature(owner.__init__).parameters.values()
        rest = {each.name for each in own if each.kind in (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)}
        kinds = {name: kind for name, kind in hints.items() if name not in rest | {"return"}} | kinds
        if not any(each.kind is Parameter.VAR_KEYWORD for each in own):  # the rest goes to the class above
            break
    for name, kind in list(kinds.items()):
        if is_dataclass(kind):
            kinds |= {name: ..., **{f"{name}.{key}": own for key, own in get_type_hints(kind).items()}}
    return kinds


def arguments_of(found: Any) -> frozenset[str]:  # noqa: ANN401 - a method or a data module
    """The names of the arguments of a class, those of the classes above included where it takes them."""
    return frozenset(_of_class(found))


def _of_parser(parser: ArgumentParser) -> dict[str, Any]:
    """Types of the parser's own keys, those of the trainer one by one; `...` for what holds others."""
    hints = get_type_hints(Trainer.__init__)
    known: dict[str, Any] = dict.fromkeys(("trainer", "model", "data"), ...)
    own: dict[str, Any] = {"seed_everything": int, "save_codes": bool, "gallery": bool}
    for key in vars(parser.get_defaults(skip_validation=True).as_flat()):
        first, _, rest = key.partition(".")
        if first not in BASES:
            known[key] = hints.get(rest, Any) if first == "trainer" else own.get(key, str)
    return known


def _takes_class(kind: Any) -> bool:  # noqa: ANN401 - a type
    """Whether values of a type may be classes with arguments of their own."""
    if get_origin(kind) in (Union, UnionType, list) or get_args(kind):
        return any(_takes_class(each) for each in get_args(kind))
    return kind is Any or (isinstance(kind, type) and kind not in WORDS and not is_dataclass(kind))


def _short(text: str, length: int = LENGTH) -> str:
    return text if len(text) <= length else f"{text[: length - 4]} ..."


def built(base: type, config: Mapping[str, Any]) -> Any:  # noqa: ANN401 - an object of the base class
    """An object from the class and the arguments of a configuration.

    Raises:
        UserError: they do not fit.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(base, "built")
    try:
        found = parser.instantiate_classes(parser.parse_object({"built": config}))
    except (ArgumentError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())[:160]
        raise UserError(f"the configuration does not fit this version ({why}).") from error
    return found["built"]
