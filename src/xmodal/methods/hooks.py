"""Lightning's hooks that the suite itself has: a method of one's own need not know of them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

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


def _after(first: Callable[..., Any], own: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(own)
    def hook(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - Lightning's own
        first(self, *args, **kwargs)
        return own(self, *args, **kwargs)

    return hook
