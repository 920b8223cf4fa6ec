"""YAML files that people write: a key that is there twice is refused, and size, depth and aliases are bounded."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from xmodal.errors import UserError

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the compiled one is ten times as fast, where there is one
BYTES, DEPTH, NODES = 256 * 1024, 32, 50_000  # of a file, of its nesting, of its values with all aliases written out
SIGNS = 300  # of collections, in a text whose depth is measured on its nodes: recursion goes as deep
PLAIN = {  # what the loaders say, in words for those who do not know the grammar
    "mapping values": "no key can be here: put a text with `: ` in quotes, and indent the keys of a section alike",
    "cannot start any token": "nothing begins with this character: indent by spaces, not tabs, and put text in quotes",
    "expected (',' or|node content|the node)": "the list or mapping in brackets is not closed, or lacks something here",
    "end of stream": "quotes that were opened are never closed",
    "find expected ':'": "the line before has no `: ` after its key",
    "expected (key|<block end>|'-')": "this belongs to nothing above it: indent what belongs together alike",
    "another document": "a second document begins: keep one",
    "undefined alias": "text that begins with `*` needs quotes",
    "escape character": "a backslash in double quotes is written twice",
    "constructor for the tag": "tags that begin with `!` are not read: put the text in quotes",
}
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
    with _named(source, text):
        node = _node(text, source)
        return None if node is None else LOADER("").construct_document(node)


def parse_leaves(text: str, source: str) -> dict[str, str]:
    """The values of a mapping as they are written, by dotted key, in half the time; empty where there is none.

    Raises:
        UserError: as for `read_yaml`.
    """
    with _named(source, text):
        node = _node(text, source)
        return dict(_leaves(node, "")) if isinstance(node, yaml.MappingNode) else {}


@contextlib.contextmanager
def _named(source: str, text: str) -> Iterator[None]:
    """Say in one line what is wrong with a text."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{source} is no YAML: {_in_words(error, text)}.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"{source} is no YAML: {' '.join(str(error).split())[:150]}.") from error


def _node(text: str, source: str) -> yaml.Node | None:
    """The node of a text whose size, depth and aliases are within their bounds, and whose keys are there once."""
    if len(text) > BYTES:
        raise UserError(f"{source} is larger than {BYTES // 1024} KiB: a configuration is smaller.")
    depth = 0
    # Before anything recursive sees it; a collection has one of these signs of its own, so that with few none is deep.
    for event in yaml.parse(text, LOADER) if sum(map(text.count, "[{-?:")) > SIGNS else ():
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise UserError(f"{source} is nested deeper than {DEPTH} levels.")
    node: yaml.Node | None = yaml.compose(text, LOADER)
    if node is not None and _measure(node, source, {})[0] > NODES:
        raise UserError(f"{source} has more than {NODES} values once its aliases are written out.")
    return node


def _leaves(node: yaml.MappingNode, prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        if isinstance(value, yaml.MappingNode) and value.value:
            yield from _leaves(value, f"{prefix}{key.value}.")
        else:
            yield f"{prefix}{key.value}", _text(value)


def _text(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if isinstance(node, yaml.MappingNode):
        return "{" + ", ".join(f"{key.value}: {_text(value)}" for key, value in node.value) + "}"
    return f"[{', '.join(map(_text, node.value))}]"


def _in_words(error: yaml.MarkedYAMLError, text: str) -> str:
    """Where a text stops to be YAML, and why."""
    said, mark = " ".join(f"{error.context or ''} {error.problem or ''}".split()), error.problem_mark
    words = next((words for pattern, words in PLAIN.items() if re.search(pattern, said)), said)
    if mark is None:
        return words
    line = "".join(text.splitlines()[mark.line : mark.line + 1]).strip()
    return f"line {mark.line + 1}, column {mark.column + 1}{f' (`{line[:40]}`)' if line else ''}: {words}"


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
