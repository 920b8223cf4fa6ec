"""`xmodal init`: experiment files to edit, a YAML for data of your own, a method or a dataset class of your own."""

import keyword
import shutil
import sys
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from string import Template

from xmodal import arguments, paths
from xmodal.errors import UserError

METHOD = {  # template -> the file that it becomes
    "method.py": "{name}.py",
    "method.yaml": "experiments/{name}/emoji.yaml",
    "ablation.yaml": "experiments/{name}/ablations/no_quantization.yaml",
    "sweep.yaml": "sweeps/{name}.yaml",
    "test_method.py": "test_{name}.py",
}


def main(argv: Sequence[str]) -> int:
    """`xmodal init`, `xmodal init data PICTURES TABLE`, `xmodal init method NAME`, `xmodal init dataset NAME`.

    Without anything it copies the experiment and sweep files of the package into the working folder, where they go
    before the package's. Nothing that is there is written over.

    Example: `xmodal init data photos captions.csv`, then `xmodal train cca my.yaml --dim 64`.
    """
    options = arguments.parser("init").parse_args(list(argv))
    if options.kind == "data":
        from xmodal.commands.init_data import write_data

        return write_data(options)
    if options.kind is None:
        return _copy()
    return _write(options.name, METHOD if options.kind == "method" else {"dataset.py": "{name}.py"}, options.kind)


def _copy() -> int:
    copied = 0
    for own in (paths.experiments(), paths.sweeps()):
        packaged = paths.PACKAGE / own.name
        for path in sorted(packaged.rglob("*")):
            target = own / path.relative_to(packaged)
            if path.is_file() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
                copied += 1
    sys.stdout.write(f"{copied} files copied to {paths.experiments()} and {paths.sweeps()}; what was there is kept\n")
    return 0


def _write(name: str, templates: dict[str, str], kind: str) -> int:
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise UserError(f"the name is {name!r}: give lower-case letters, digits and _, such as my_{kind}.")
    title = "".join(part.capitalize() for part in name.split("_"))
    targets = {template: paths.home() / target.format(name=name) for template, target in templates.items()}
    if there := [str(target) for target in targets.values() if target.exists()]:
        raise UserError(f"{there[0]} is there already: give another name, or move it away.")
    if paths.found(paths.experiments() / name).exists() or name in sys.modules or find_spec(name):
        raise UserError(f"{name} is the name of a method or a Python module already: give another one.")
    for template, target in targets.items():
        text = files("xmodal").joinpath("templates", f"{template}.txt").read_text("utf-8")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(text).substitute({"name": name, "class": title}))
        sys.stdout.write(f"{target}\n")
    command = f"train {name} emoji --bits 64" if kind == "method" else f"train dcmh {name}.{title} --bits 16"
    sys.stdout.write(f"try it: xmodal {command}\n")
    return 0
