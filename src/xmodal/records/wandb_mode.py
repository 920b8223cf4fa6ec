"""Whether W&B is online, and the folders it writes to; decided before any run, so that no run waits for the network."""

import netrc
import os
import sys
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Literal, cast, get_args
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

from xmodal.errors import UserError

Mode = Literal["online", "offline", "disabled"]
PATIENCE = 2.0  # seconds in which a server has to answer once


def mode() -> Mode:
    """`online` if a W&B key is at hand and the server answers, else `offline`; `WANDB_MODE` overrides the key.

    A server that does not answer is said once, and the processes that this one starts are offline as well.

    Raises:
        UserError: WANDB_MODE is none of the three, or WANDB_BASE_URL is no URL.
    """
    for variable in ("WANDB_MODE", "WANDB_BASE_URL"):
        if os.environ.get(variable) == "":
            del os.environ[variable]  # W&B takes an empty one for a value
    chosen = os.environ.get("WANDB_MODE") or ("online" if has_key() else "offline")
    chosen = "offline" if chosen == "dryrun" else chosen  # its old name, which Lightning's logger still sets
    if chosen not in get_args(Mode):
        raise UserError(f"WANDB_MODE is {chosen!r}: give one of {', '.join(get_args(Mode))}.")
    check_url(os.environ.get("WANDB_BASE_URL"))
    if chosen == "online" and not answers(server()):
        go_offline(f"W&B at {server()} does not answer")
        chosen = "offline"
    return cast("Mode", chosen)


def check_url(url: str | None) -> None:
    """Refuse what is no URL of a server.

    Raises:
        UserError: it is none.
    """
    with suppress(ValueError):  # of a port, or of brackets
        if url is None or (
            urlsplit(url).scheme in ("http", "https") and urlsplit(url).hostname and urlsplit(url).port != 0
        ):
            return
    raise UserError(f"WANDB_BASE_URL is {url!r}: give the URL of a server, such as https://api.wandb.ai.")


def go_offline(reason: str) -> None:
    """Say why, and log offline in this process and in those that it starts."""
    sys.stderr.write(f"{reason}: logging offline, `make sync` uploads later\n")
    os.environ["WANDB_MODE"] = "offline"


def has_key() -> bool:
    """Whether a W&B key is in the environment or in the user's netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    with suppress(FileNotFoundError, netrc.NetrcParseError):
        hosts = netrc.netrc().hosts
        return urlsplit(server()).hostname in hosts or "api.wandb.ai" in hosts
    return False


def server() -> str:
    """URL of the W&B server that the environment names, or else the user's settings."""
    if given := os.environ.get("WANDB_BASE_URL"):
        check_url(given)
        return given
    import wandb  # takes most of a second

    return str(wandb.setup().settings.base_url)


def answers(url: str) -> bool:
    """Whether a server answers anything within `PATIENCE`; in a thread, because looking a name up knows no timeout."""
    heard = []

    def ask() -> None:
        with suppress(OSError, ValueError):
            with suppress(HTTPError):  # an answer
                urlopen(url, timeout=PATIENCE).close()
            heard.append(True)

    asking = Thread(target=ask, daemon=True)
    asking.start()
    asking.join(PATIENCE)
    return bool(heard)


def need_server(otherwise: str) -> None:
    """Make sure that W&B can be talked to, for commands that do nothing else.

    Args:
        otherwise: what to do where it does not answer.

    Raises:
        UserError: there is no key, or the server does not answer.
    """
    if not has_key():
        raise UserError("no W&B key: `wandb login` keeps one, or give it as WANDB_API_KEY.")
    if not answers(server()):
        raise UserError(f"W&B at {server()} does not answer: {otherwise}")


def keep_inside(runs: Path) -> None:
    """Let W&B write below `<runs>/wandb` only, unless the environment says where.

    Raises:
        UserError: there can be no such folder.
    """
    try:
        (runs / "wandb").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {runs / 'wandb'}: {error.strerror}. Make it a writable folder, or set WANDB_MODE=disabled."
        ) from error
    for variable in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        os.environ.setdefault(variable, str(runs / "wandb"))
