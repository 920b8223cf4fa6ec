"""`xmodal dashboard`: the studies in a browser, by optuna-dashboard (optional: the extra `dashboard`)."""

import sys
from collections.abc import Sequence

from optuna.storages import get_storage
from sqlalchemy.exc import SQLAlchemyError

from xmodal import arguments, paths
from xmodal.errors import UserError
from xmodal.run import whole


def main(argv: Sequence[str]) -> int:
    """`xmodal dashboard`: serve the studies on this machine until interrupted.

    Raises:
        UserError: optuna-dashboard is not installed, there are no studies, or the address is taken.
    """
    options = arguments.parser("dashboard").parse_args(list(argv))
    port = whole("PORT", options.port, 1, 65_535)
    database = paths.runs() / "sweeps.db"
    if options.storage is None and not database.is_file():
        raise UserError(f"no studies at {database}: `make sweep METHOD=dmsf BITS=64` makes one, or give STORAGE.")
    try:
        from optuna_dashboard import run_server
    except ImportError as error:
        raise UserError(
            "optuna-dashboard is not installed: `make dashboard` installs it, or `pip install 'xmodal[dashboard]'`."
        ) from error
    url = options.storage or f"sqlite:///{database}"
    sys.stderr.write(f"studies of {url} on http://127.0.0.1:{port}, until Ctrl-C\n")
    try:
        run_server(get_storage(url), host="127.0.0.1", port=port)
    except (SQLAlchemyError, OSError) as error:
        raise UserError(f"cannot serve {url} on port {port}: {' '.join(str(error).split())[:300]}") from error
    return 0
