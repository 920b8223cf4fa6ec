"""YAML files that people write: a key that is there twice is refused, and size, depth and aliases are bounded."""

from pathlib import Path
from typing import Any

import yaml

from xmodal.errors import UserError

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the compiled one is ten times as fast, where there is one
BYTES, DEPTH, NODES = 256 * 1024, 32, 50_000  # of a file, of its nesting, of its values with all aliases written out
TEXT = ("tag:yaml.org,2002:str", "tag:yaml.org,2002:merge")


def read_yaml(path: Path) -> Any:  # noqa: ANN401 - what the file holds
    """The content of a file.

    Raises:
        UserError: it cannot be read, is no YAML, names a key twice, or is larger or deeper than a configuration can be.
    """
    try:
        with path.open("rb") as file:
            text = file.read(BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {error}.") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:  # noqa: ANN401 - what the text holds
    """The content of a text; `source` names it in errors.

    Raises:
        UserError: as for `read_yaml`.
    """
    if len(text) > BYTES:
        raise UserError(f"{source} is larger than {BYTES // 1024} KiB: a configuration is smaller.")
    loader = None
    try:
        depth = 0
        for event in yaml.parse(text, LOADER):  # before anything recursive sees it
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH:
                raise UserError(f"{source} is nested deeper than {DEPTH} levels.")
        loader = LOADER(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _measure(node, source, {})[0] > NODES:
            raise UserError(f"{source} has more than {NODES} values once its aliases are written out.")
        return loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{source} is no YAML: {' '.join(str(error).split())[:150]}.") from error
    finally:
        if loader is not None:
            loader.dispose()


def _measure(node: yaml.Node, source: str, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """How many values a node stands for, and how deep they are nested; keys are checked on the way."""
    if isinstance(node, yaml.ScalarNode):
        return 1, 0
    if id(node) in known:
        if (found := known[id(node)]) is None:
            raise UserError(f"{source} holds itself in line {node.start_mark.line + 1}.")
        return found
    known[id(node)] = None
    parts = node.value
    if isinstance(node, yaml.MappingNode):
        seen = set[str]()
        for key, _ in node.value:
            line = f"line {key.start_mark.line + 1} of {source}"
            if not isinstance(key, yaml.ScalarNode) or key.tag not in TEXT:
                raise UserError(f"the key {str(key.value)[:40]!r} in {line} is no text: put it in quotes.")
            if key.value in seen:
                raise UserError(f"the key {key.value[:80]!r} is there twice, again in {line}: keep one.")
            seen.add(key.value)
        parts = [value for _, value in node.value]
    sizes = [_measure(part, source, known) for part in parts]
    size, height = 1 + sum(found[0] for found in sizes), 1 + max((found[1] for found in sizes), default=0)
    if height > DEPTH:
        raise UserError(f"{source} is nested deeper than {DEPTH} levels.")
    known[id(node)] = size, height
    return size, height
