"""`xmodal prepare NAME`: check and convert a dataset, encode it once, and say what there is."""

import argparse
import sys
from collections.abc import Sequence

from xmodal.errors import UserError


def main(argv: Sequence[str]) -> int:
    """`xmodal prepare NAME [--root FOLDER]`.

    Raises:
        UserError: no such dataset, or its files are missing or damaged.
    """
    parser = argparse.ArgumentParser(prog="xmodal prepare", description=main.__doc__)
    parser.add_argument("name", help="of the dataset")
    parser.add_argument("--root", help="its folder; default: $XMODAL_DATA/NAME or data/NAME")
    options = parser.parse_args(list(argv))
    from xmodal import data

    found = [getattr(data, each) for each in data.__all__]
    modules = {module.name: module for module in found if isinstance(getattr(module, "name", None), str)}
    if options.name not in modules:
        raise UserError(f"no dataset {options.name!r}; the datasets are: {', '.join(sorted(modules))}.")
    module = modules[options.name].prepare(options.root)
    for key, value in module.describe().items():
        sys.stdout.write(f"{key}: {value}\n")
    sys.stdout.write(f"image features {module.image_dim}-d, text features {module.text_dim}-d, in {module.root}\n")
    return 0
