"""The exceptions that a command shows as a single line instead of a traceback."""

from collections.abc import Iterable
from difflib import get_close_matches


def meant(given: str, known: Iterable[str]) -> str:
    """` (did you mean X?)`, if one of the known names is much like a given one, else nothing."""
    near = get_close_matches(given.lower(), known, 1)
    return f" (did you mean {near[0]}?)" if near else ""


class UserError(Exception):
    """Something the user can mend: the message says what was got, what is allowed, and the way out."""


class DivergedError(UserError):
    """Parameters, outputs or the validation score of a training are not finite."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the training diverged: {what}; lower learning rates or weights of the loss")


class DoneError(UserError):
    """Another process has left the record of this very run while this one waited for the folder.

    Args:
        path: of the record.
    """

    def __init__(self, path: str) -> None:
        super().__init__(f"another process has left {path} meanwhile")
        self.path = path


class NotFiniteError(ValueError):
    """A tensor holds NaN or infinite values."""
