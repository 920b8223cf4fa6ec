"""The exceptions that a command shows as a single line instead of a traceback."""


class UserError(Exception):
    """Something the user can mend: the message says what was got, what is allowed, and the way out."""


class DivergedError(UserError):
    """Parameters, outputs or the validation score of a training are not finite."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the training diverged: {what}; lower learning rates or weights of the loss")


class NotFiniteError(ValueError):
    """A tensor holds NaN or infinite values."""
