"""`xmodal datasets`: every dataset, what of it lies here, its protocols and their sizes."""

import sys
from collections.abc import Sequence
from typing import Any

from xmodal import arguments, paths
from xmodal.errors import UserError, meant
from xmodal.experiment import own_data
from xmodal.own import is_own


def main(argv: Sequence[str]) -> int:
    """`xmodal datasets [NAME]`: one line per dataset, or everything about one.

    Raises:
        UserError: no such dataset.
    """
    options = arguments.parser("datasets").parse_args(list(argv))
    if options.protocols:
        sys.stdout.write(protocol_table())
        return 0
    if options.name:
        sys.stdout.write(about(module_of(options.name)))
        return 0
    from xmodal import data

    for name, module in data.registry().items():
        lines = (sizes(module), state(module), f"protocols: {protocols(module)}")
        sys.stdout.write(f"{name:16} " + f"\n{'':17}".join(lines) + "\n")
    sys.stdout.write("`xmodal datasets NAME` says which files are expected, where they come from, and the protocols.\n")
    return 0


def module_of(name: str) -> Any:  # noqa: ANN401 - a data module's class
    """The data module of a dataset.

    Raises:
        UserError: there is none of that name.
    """
    from xmodal import data

    if is_own(name):
        raise UserError(f"`xmodal prepare {name}` says what data of your own hold.")
    if name not in (known := data.registry()):
        raise UserError(f"no dataset {name!r}{meant(name, known)}; the datasets are: {', '.join(known)}.")
    return known[name]


def data_of(given: str) -> tuple[str, Any, dict[str, Any]]:
    """Name, class and arguments of a dataset of the suite, or of data of one's own by their file or class.

    Raises:
        UserError: there is none.
    """
    if is_own(given):
        return own_data(given)
    if given == "folder":
        raise UserError("own data are named by their file, which `xmodal init data FOLDER TABLE` writes.")
    return given, module_of(given), {}


def sizes(module: Any) -> str:  # noqa: ANN401 - a data module's class
    """What a dataset is and how large, from the head of its file."""
    return (sys.modules[module.__module__].__doc__ or "").partition("\n")[0]


def protocols(module: Any) -> str:  # noqa: ANN401 - a data module's class
    """The names of a dataset's protocols, the default first."""
    return ", ".join(getattr(module, "recipes", {})) or "its own, see its arguments"


def protocol_table() -> str:
    """Every named protocol as a Markdown table."""
    from xmodal.data.sets.protocols import PROTOCOLS

    lines = ["| dataset | protocol | what it does, and who uses it |", "|---|---|---|"]
    for dataset, recipes in PROTOCOLS.items():
        lines += [f"| {dataset} | `{name}` | {recipe.words} |" for name, recipe in recipes.items()]
    return "\n".join(lines) + "\n"


def state(module: Any) -> str:  # noqa: ANN401 - a data module's class
    """What of a dataset lies in its folder: nothing, a form of its files or a part of one, and features."""
    root = paths.data(module.name)
    if not root.is_dir():
        return f"not here ({root})"
    features = sum(path.is_dir() and not path.name.startswith(".") for path in (root / "features").glob("*"))
    encoded = f"{features} feature caches" if features else "not encoded"
    if not hasattr(module, "forms"):
        return f"here, {encoded}"
    from xmodal.data.readers.files import missing

    try:
        lacking = missing(root, module.forms)
    except UserError as error:  # the other datasets are still listed
        return str(error)
    whole = [form for form, names in lacking.items() if not names]
    if whole:
        return f"here ({', '.join(whole)}), {encoded}"
    parts = [f"{form} lacks {', '.join(names)}" for form, names in lacking.items()]
    return f"incomplete: {'; '.join(parts) or 'none of its files is there'} ({root})"


def about(module: Any) -> str:  # noqa: ANN401 - a data module's class
    """What a dataset is, what of it is here, what is expected where, where it comes from, and its protocols."""
    lines = [sizes(module), (module.__doc__ or "").partition("\n")[0], f"folder: {paths.data(module.name)}"]
    lines.append(f"state: {state(module)}")
    if hasattr(module, "forms"):
        lines.append(f"from: {module.origin}")
        lines += ["files, by form:", *(f"  {form:16} {', '.join(names)}" for form, names in module.forms.items())]
    if hasattr(module, "recipes"):
        lines.append("protocols, the default first:")
        lines += [f"  {name:16} {recipe.words}" for name, recipe in module.recipes.items()]
    return "\n".join(lines) + "\n"
