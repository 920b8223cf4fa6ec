"""Which file says how a method runs on a dataset: one that is there, or one made for data or a method of one's own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from xmodal import paths
from xmodal.checks import parameters_of
from xmodal.errors import UserError, meant
from xmodal.files import write_atomically
from xmodal.own import is_own, own_class
from xmodal.records.record import leaves
from xmodal.safe_yaml import read_yaml

if TYPE_CHECKING:  # importing it takes seconds; names are checked before
    from xmodal.methods import RetrievalMethod

PATTERN = "emoji"  # the experiment file that says how a method runs on pictures and texts of any kind
CARRIED = (
    *("batch_size", "drop_last", "per_label", "tokens", "trunk"),
    *("image_encoder", "text_encoder", "image_scaling", "text_scaling"),
)  # of that file's data: what a method wants of its batches, not what the data are
SUBJECTS = ("model.class_path", "data.class_path", "data.init_args.name")  # method and data that a file is of


class Experiment(NamedTuple):
    """A method on a dataset.

    Attributes:
        file: experiment file of the pair.
        method: its name, as in `runs/`.
        dataset: its name, as in `runs/`.
    """

    file: Path
    method: str
    dataset: str


def experiment(method: str, data: str) -> Experiment:
    """The experiment of a pair.

    Args:
        method: a folder of `experiments/`; or a class of one's own, as `package.Class` or as the path of its file.
        data: an experiment file of that folder; or a YAML file with a `data` section, as `xmodal init data` writes it;
            or a class of one's own.

    Raises:
        UserError: there is no such method or dataset; the message lists those there are.
    """
    own_method, own_data = is_own(method), is_own(data)
    name = own_class(method, "model").name if own_method else method
    dataset, content = _data(data) if own_data else (data, None)
    path = paths.found(paths.experiments() / name / f"{dataset}.yaml")
    if path.is_file() and not own_data:
        return Experiment(path, name, dataset)
    folders = paths.methods()
    if not own_method and name not in folders:
        raise UserError(
            f"METHOD is {method!r}{meant(method, folders)}; the methods are: {', '.join(folders) or 'none'}; or "
            "name a class of your own, as my_package.MyMethod or my_method.py."
        )
    if not own_method and content is None:
        there = paths.datasets(name)
        raise UserError(
            f"DATA is {data!r}{meant(data, there)}; {name} has experiment files for: {', '.join(there)}. Write "
            f"{paths.experiments() / name / data}.yaml for another, or give a YAML file of your own data."
        )
    return Experiment(_made(method if own_method else None, name, data, dataset, content), name, dataset)


def own_data(data: str) -> tuple[str, Any, dict[str, Any]]:
    """Name, class and arguments of data of one's own; see `experiment`."""
    name, content = _data(data)
    return name, _data_class(content["data"]["class_path"]), content["data"].get("init_args") or {}


def dataset_name(data: str) -> str:
    """The name under which runs on a dataset are kept; see `experiment`."""
    return own_data(data)[0] if is_own(data) else data


def configuration(method: str | None, data: str | None, files: Sequence[str | Path] = ()) -> list[str]:
    """The configuration files of a run, in order, as `--config` arguments; a tuned file's run is marked as one.

    Raises:
        UserError: neither a method with a dataset nor a configuration file was named; a file is missing, or of others.
    """
    if method and data:
        files = [experiment(method, data).file, *files]
        there = [Path(file) for file in files if Path(file).is_file()]
        named, *others = (dict(leaves(tree)) if isinstance(tree, dict) else {} for tree in map(read_yaml, there))
        for file, other in zip(there[1:], others, strict=True):
            its = {key for key in other if key.startswith("data.init_args.") and key.split(".")[2] not in CARRIED}
            for key in sorted({*SUBJECTS, *(its if file.parent.name == "tuned" else ())} & other.keys()):
                value, own = other[key], named.get(key, "none")
                if value != own and not (key.endswith("class_path") and value.split(".")[-1] == own.split(".")[-1]):
                    raise UserError(f"a --config file has {key} {value}, {method} {data} has {own}: name one of them.")
    elif method or not files:
        raise UserError("name a method and a dataset, such as `xmodal train dmsf emoji`, or a file with --config.")
    if missing := [str(file) for file in files if not Path(file).is_file()]:
        raise UserError(f"no configuration file {', '.join(missing)}.")
    marks = ["--variant=tuned"] if any(Path(file).parent.name == "tuned" for file in files) else []
    default = paths.found(paths.experiments() / "default.yaml")
    return [*(f"--config={file}" for file in (default, *files)), *marks]


def size_names(method: str) -> tuple[str, ...]:
    """Which of `bits` and `dim` sets the size of what a method gives; both where its class is not known yet.

    A method that takes either has no default for `bits`; beside one, `dim` is a size within the method.
    """
    from xmodal.keys import arguments_of

    found = method_class(method)
    if found is None:
        return ("bits", "dim")
    known = parameters_of(found)
    parameters = {name: known[name] for name in arguments_of(found) if name in known}
    if "bits" in parameters and parameters["bits"].default is not None:
        return ("bits",)
    return tuple(name for name in ("bits", "dim") if name in parameters)


def method_class(method: str) -> "type[RetrievalMethod] | None":
    """The class of a method: of the suite, one's own, or the one that the method's own experiment files name."""
    from xmodal import methods

    if is_own(method):
        return own_class(method, "model")  # type: ignore[no-any-return]
    if method in methods.registry():
        return methods.registry()[method]
    loaded = {each.name: each for each in _below(methods.RetrievalMethod) if hasattr(each, "name")}
    if method not in loaded:
        for file in paths.listed(paths.experiments(), f"{method}/*.yaml"):
            written = (read_yaml(file) or {}).get("model")
            if isinstance(written, dict) and "." in str(written.get("class_path", "")):
                return own_class(written["class_path"], "model")  # type: ignore[no-any-return]
    return loaded.get(method)


def _data(given: str) -> tuple[str, dict[str, Any]]:
    """Name and configuration of data of one's own."""
    from xmodal import data

    if not given.endswith((".yaml", ".yml")):
        found = own_class(given, "data")
        return found.name, {"data": {"class_path": f"{found.__module__}.{found.__qualname__}"}}
    if not Path(given).is_file():
        raise UserError(f"there is no file {given}: `xmodal init data PICTURES TABLE` writes one.")
    content = read_yaml(Path(given))
    written = content.get("data") if isinstance(content, dict) else None
    if not isinstance(written, dict) or not isinstance(written.get("class_path"), str):
        raise UserError(f"{given} has no `data:` with a class_path: `xmodal init data PICTURES TABLE` writes one.")
    path, name = written["class_path"], (written.get("init_args") or {}).get("name")
    if "." not in path and path not in data.__all__:
        raise UserError(f"{given}: data.class_path is {path!r}: no data module; such as Folder, or my_package.MyData.")
    return str(name or _data_class(path).name), content


def _data_class(path: str) -> Any:  # noqa: ANN401 - a data module's class
    from xmodal import data

    return own_class(path, "data") if "." in path else getattr(data, path)


def _made(method: str | None, name: str, data: str, dataset: str, content: dict[str, Any] | None) -> Path:
    """Write the experiment file of a method or of data of one's own below `runs/`, and say where."""
    from xmodal import data as sets
    from xmodal.keys import arguments_of

    pattern = paths.found(paths.experiments() / name / f"{PATTERN}.yaml")
    base: dict[str, Any] = read_yaml(pattern) if pattern.is_file() else {}
    if method:
        found = own_class(method, "model")
        base["model"] = {**base.get("model", {}), "class_path": f"{found.__module__}.{found.__qualname__}"}
    if content is None:
        if data not in (known := sets.registry()):
            raise UserError(f"DATA is {data!r}{meant(data, known)}; the datasets are: {', '.join(known)}.")
        content = {"data": {"class_path": known[data].__name__}}
    takes = arguments_of(_data_class(content["data"]["class_path"]))
    args = (base.pop("data", None) or {}).get("init_args", {})
    base["data"] = {"init_args": {key: value for key, value in args.items() if key in CARRIED and key in takes}}
    if "model" not in base:
        raise UserError(
            f"{name} has no {PATTERN}.yaml to start from: write {paths.experiments() / name / dataset}.yaml."
        )
    sources = " and ".join(filter(None, (str(pattern) if pattern.is_file() else method, data)))
    file = paths.runs() / name / dataset / "experiment.yaml"
    text = f"# Made of {sources}, anew by every command.\n" + yaml.safe_dump(_merged(base, content), sort_keys=False)
    if not file.is_file() or file.read_text() != text:
        write_atomically(file, text)
    return file


def _merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """Both, the second before the first."""
    both = {**first, **second}
    for key in first.keys() & second.keys():
        if isinstance(first[key], dict) and isinstance(second[key], dict):
            both[key] = _merged(first[key], second[key])
    return both


def _below(base: Any) -> list[Any]:  # noqa: ANN401 - classes
    return [each for direct in base.__subclasses__() for each in (direct, *_below(direct))]
