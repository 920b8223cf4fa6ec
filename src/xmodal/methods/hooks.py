"""Lightning's hooks that the suite itself has: a method of one's own need not know of them."""

from collections.abc import Callable
from functools import wraps
from inspect import unwrap
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

HOOKS = ("setup", "on_save_checkpoint", "on_load_checkpoint", "on_train_batch_start", "on_train_epoch_end")


def keep_hooks(base: type, derived: type) -> None:
    """Let each hook of a derived class run after the base's, with or without `super()`: twice does no harm.

    Args:
        base: whose hooks do what every method needs.
        derived: has some in their place, or a class beside the base that it is derived of.
    """
    for name in HOOKS:
        owner = next(each for each in derived.__mro__ if name in vars(each))
        if owner is derived or not issubclass(owner, base):  # of a class between them it is done already
            setattr(derived, name, _after(vars(base)[name], vars(owner)[name]))


def tell_of_replaced(base: type, method: object) -> None:
    """Say which hooks of a method of the suite a class of one's own takes the place of: Python does not call them.

    Args:
        base: of all methods, whose own hooks are kept.
        method: of a class that may be derived of one.
    """
    kinds = type(method).__mro__
    suite = next(place for place, each in enumerate(kinds) if each.__module__.startswith("xmodal."))
    for theirs in (each for each in kinds[suite:] if issubclass(each, base) and each is not base):
        for name in (each for each in vars(theirs) if each.startswith("on_")):
            for own in (each for each in kinds[:suite] if name in vars(each)):
                if name not in getattr(unwrap(vars(own)[name]), "__code__", _after.__code__).co_names:
                    rank_zero_warn(
                        f"{own.__name__}.{name} takes the place of {theirs.__name__}'s: "
                        f"`super().{name}(...)` in it keeps what that does."
                    )


def _after(first: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Lightning's own
        first(self, *args, **kwargs)
        return own(self, *args, **kwargs)

    return hook
