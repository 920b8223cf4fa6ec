"""The one exception that a command shows as a single line instead of a traceback."""


class UserError(Exception):
    """Something the user can mend: the message says what was got, what is allowed, and the way out."""
