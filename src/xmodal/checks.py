"""What numbers a constructor takes, once for all: by the argument's name, which means the same everywhere.

A number that no rule names is from 0 to 1e9, a whole one from 1 to a million.
"""

import inspect
import math
import re
from collections.abc import Mapping, MutableMapping
from dataclasses import asdict, is_dataclass
from numbers import Integral, Real
from types import FrameType, NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from xmodal.errors import UserError


class Range(NamedTuple):
    """The numbers that an argument takes."""

    words: str
    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def holds(self, value: float) -> bool:
        """Whether a number is one of them."""
        above = value > self.low if self.open_low else value >= self.low
        return math.isfinite(value) and above and (value < self.high if self.open_high else value <= self.high)


NAME = re.compile(r"[A-Za-z0-9._=-]{1,100}")
LARGEST = 1_000_000  # a size beyond this is a slip
MAX_SEED = 2**32 - 1  # of NumPy and Lightning
WHOLE = Range("a whole number from 1 to 1,000,000", 1, LARGEST)
FROM_ZERO = Range("a whole number from 0 to 1,000,000,000", 0, 10**9)
LAYERS = Range("a whole number from 0 to 1,000", 0, 1000)
NUMBER = Range("a finite number from 0 to 1e9", 0, 1e9)  # of a larger weight, squares of gradients overflow in silence
POSITIVE = Range("a finite number above 0, up to 1e9", 0, 1e9, open_low=True)
DROPPED = Range("a number from 0, below 1", 0, 1, open_high=True)
SHARE = Range("a number from 0 to 1", 0, 1)
SOME = Range("a number above 0, up to 1", 0, 1, open_low=True)
COSINE = Range("a number from -1 to 1", -1, 1)
RANGES = {
    **dict.fromkeys(("dropout", "input_dropout", "momentum"), DROPPED),
    **dict.fromkeys(("fusion_keep", "keep", "cross_share", "flip", "balance", "second_order"), SHARE),
    **dict.fromkeys(("crop", "lr_decay"), SOME),
    **dict.fromkeys(("temperature", "decay_every", "sharpness"), POSITIVE),
    **dict.fromkeys(("threshold", "zeta"), COSINE),
    "seed": Range(f"a whole number from 0 to {MAX_SEED:,}", 0, MAX_SEED),
    "bits": Range("a whole number from 1 to 4,096", 1, 4096),
    "dim": Range("a whole number from 1 to 4,096", 1, 4096),
    **dict.fromkeys(
        (
            *("candidates", "rerank", "subset", "per_label", "max_corrupt", "workers"),
            *("image_token_dim", "text_token_dim", "min_count", "queue"),
        ),
        FROM_ZERO,
    ),
    **dict.fromkeys(("layers", "region_layers", "self_layers", "frozen_layers"), LAYERS),
}  # by the name of an argument, which means the same in every constructor


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", NoneType: "null"}


def complete(hparams: MutableMapping[str, Any], frame: FrameType, cls: str) -> None:
    """Add to the arguments of a class those that it gives to the constructor of the method that it is derived of.

    Args:
        hparams: what the class was made with; a method reads its rates there.
        frame: of the method's constructor.
        cls: name of the class.

    Raises:
        UserError: a rate or weight of the class has its name from one of the method, and another value.
    """
    names, _, _, found = inspect.getargvalues(frame)
    for name in names[1:]:
        value = hparams.setdefault(name, found[name])
        if isinstance(found[name], float) and isinstance(value, float) and value != found[name]:
            raise UserError(
                f"{cls} has {name} {value} and gives {found[name]} to the method that it is derived of, which would "
                f"read {value}: give its own another name."
            )


def as_numbers(given: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as `check_numbers` takes them: dataclasses by field, a whole number given for a real one as one."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if is_dataclass(value) and not isinstance(value, type):
            found[name] = asdict(value)
        else:
            found[name] = float(value) if kinds.get(name) is float and isinstance(value, int) else value
    return found


def words_of(kind: Any) -> str:  # noqa: ANN401 - a type
    """The values of a type in words; empty for what has none."""
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(dict.fromkeys(found for each in get_args(kind) if (found := words_of(each))))
    if get_origin(kind) in (tuple, list):
        return f"a list such as [{words_of(get_args(kind)[0])}, ...]"
    if isinstance(kind, type) and kind not in WORDS:
        return f"a {kind.__name__}" + ("" if is_dataclass(kind) else " as class_path and init_args")
    return WORDS.get(kind, "")


def fits(value: Any, kind: Any) -> bool:  # noqa: ANN401 - anything, and a type
    """Whether a value is of a type; numbers of NumPy are numbers, and a list serves as a tuple."""
    if get_origin(kind) in (Union, UnionType):
        return any(fits(value, each) for each in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) in (tuple, list):
        return isinstance(value, tuple | list) and all(fits(each, get_args(kind)[0]) for each in value)
    if is_dataclass(kind) and isinstance(value, Mapping):  # as the command line keeps it
        return True
    if kind in (int, float):
        return isinstance(value, Integral if kind is int else Real) and not isinstance(value, bool)
    return kind is Any or not isinstance(kind, type) or isinstance(value, kind)


def check_kinds(where: str, arguments: Mapping[str, Any], kinds: Mapping[str, Any]) -> None:
    """Check the types of arguments, also those in a dataclass.

    Args:
        where: what the names stand under, such as `model`.
        arguments: of a constructor, or of a dataclass.
        kinds: type of each, by name.

    Raises:
        UserError: a value is of another type.
    """
    for name, value in arguments.items():
        if not fits(value, kinds.get(name, Any)):
            raise UserError(f"{where}.{name} is {str(value)[:60]}: give {words_of(kinds[name])}.")
        if is_dataclass(value) and not isinstance(value, type):
            check_kinds(f"{where}.{name}", vars(value), get_type_hints(type(value)))


def check_numbers(where: str, arguments: Mapping[str, Any]) -> None:
    """Check every number among arguments, also those in lists and in the weights.

    Args:
        where: what the names stand under, such as `model`.
        arguments: of a constructor; what is a mapping is looked into.

    Raises:
        UserError: a number is outside what its argument takes.
    """
    for name, value in arguments.items():
        key = f"{where}.{name}"
        if isinstance(value, Mapping):
            if "class_path" not in value:
                check_numbers(key, value)
            continue
        for each in value if isinstance(value, list | tuple) else (value,):
            if isinstance(each, int | float) and not isinstance(each, bool):
                named = NUMBER if where.endswith(".weights") else RANGES.get(name)  # the name of a loss is its own
                allowed = named or (WHOLE if isinstance(each, int) else NUMBER)
                if not allowed.holds(each):
                    raise UserError(f"{key} is {value}: give {allowed.words}.")


def check_name(key: str, text: str) -> None:
    """Refuse what cannot be a folder's name everywhere, or would lead out of its folder.

    Raises:
        UserError: it is none.
    """
    if not NAME.fullmatch(text) or text.strip(".") == "":
        raise UserError(f"{key} is {text[:60]!r}: give up to 100 letters, digits and . _ - = only.")


def parameters_of(found: type) -> dict[str, inspect.Parameter]:
    """The parameters of a class and of those above it, to which its `**kwargs` go; the lowest class's stands."""
    known = dict[str, inspect.Parameter]()
    for owner in (each for each in reversed(found.__mro__) if "__init__" in vars(each)):
        known |= inspect.signature(vars(owner)["__init__"]).parameters
    return known


def check_trunk_lr(method: type, config: Mapping[str, Any]) -> None:
    """Refuse a learning rate of trunks where none is trained.

    Raises:
        UserError: it is not the method's own, and acts on nothing.
    """
    own = parameters_of(method).get("trunk_lr")
    default = own.default if own else None
    value = config["model"]["init_args"].get("trunk_lr", default)
    if value != default and config.get("data.init_args.trunk.sides", "none") == "none":
        raise UserError(f"model.trunk_lr is {value} and acts on trained trunks: say which with data.trunk.sides.")


def check_tokens(method: str, image: int, text: int) -> None:
    """Refuse data without tokens.

    Args:
        method: its name.
        image: size of an image token; 0 where there are none.
        text: the same of the texts.

    Raises:
        UserError: a side has none.
    """
    if not image or not text:
        raise UserError(f"{method} reads tokens: set data.tokens=true and encoders that give them on both sides.")
