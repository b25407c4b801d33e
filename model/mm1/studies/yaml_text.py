"""Reading YAML as text: every value as it is written, as on a command line, and the line of each field. Torch-free.

YAML 1.1 would read the level ``50:50`` as 3050, ``010`` as 8 and ``no`` as false. Here they remain what was written, and the
fields convert them. Only an empty value, ``~`` and ``null`` are None.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml
from yaml.constructor import ConstructorError

from mm1.errors import ConfigurationError

MAX_VALUES = 20_000
"""Values of a text, each counted as often as it is referred to; more are a mistake, or an attack with nested references."""
_NULL = "tag:yaml.org,2002:null"


class _Loader(yaml.SafeLoader):
    """Reads scalars as text."""


def _scalar(loader: yaml.SafeLoader, node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.ScalarNode):
        raise ConstructorError(None, None, f"unknown tag {node.tag!r}; remove it", node.start_mark)
    return None if node.tag == _NULL else str(node.value)


for _tag in ("bool", "int", "float", "timestamp", "null", "value"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _scalar)
for _tag in ("binary", "omap", "pairs", "set"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _Loader.construct_undefined)  # type: ignore[type-var]


class Lines:
    """The lines of the fields of a YAML text."""

    def __init__(self, root: yaml.Node | None) -> None:
        self.lines: dict[tuple[str, ...], int] = {}
        if root is not None:
            self._add(root, ())

    def _add(self, node: yaml.Node, path: tuple[str, ...]) -> None:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self.lines[*path, str(key.value)] = key.start_mark.line + 1
                self._add(value, (*path, str(key.value)))
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._add(value, (*path, str(number)))

    def at(self, field: str) -> str:
        """Return ``, line 3`` for a dotted field, or for the closest one above it; a key may contain dots itself."""
        paths = {".".join(path): line for path, line in self.lines.items()}
        while field and field not in paths:
            field = field.rpartition(".")[0]
        return f", line {paths[field]}" if field in paths else ""


def parse(text: str, what: str) -> tuple[dict[str, Any], Lines]:
    """Parse a YAML text that contains one map; its values are texts, None, lists and maps.

    Args:
        text: the text.
        what: start of error messages, such as ``study my.yaml``.

    Raises:
        ConfigurationError: invalid YAML, a key that is empty or given twice, or not a map.
    """
    try:
        root = yaml.compose(text, _Loader)
        for number, node in enumerate(_nodes(root)):
            if number == MAX_VALUES:
                raise ConfigurationError(
                    f"{what}: expected at most {MAX_VALUES:,} values; are there nested references (*name)?"
                )
            _check_keys(node, what)
        tree = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigurationError(f"{what}{line}: invalid YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        line = f", line {text.count(chr(10), 0, error.position) + 1}"
        raise ConfigurationError(f"{what}{line}: invalid YAML: the character {chr(error.character)!r} is not allowed") from None
    except RecursionError:
        raise ConfigurationError(f"{what}: invalid YAML: its lists and maps are nested too deeply") from None
    if not isinstance(tree, dict):
        raise ConfigurationError(f"{what}: expected a map, such as `title: ...` on the first line; got {str(tree)[:40]!r}")
    return tree, Lines(root)


def _nodes(root: yaml.Node | None) -> Iterator[yaml.Node]:
    """Yield all nodes, those behind a reference once more for each reference."""
    stack = [root] if root is not None else []
    while stack:
        node = stack.pop()
        yield node
        if isinstance(node, yaml.MappingNode):
            stack += [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            stack += node.value


def _check_keys(node: yaml.Node, what: str) -> None:
    """Refuse a key that is given twice, of which YAML would silently keep the last, and one that is empty."""
    if not isinstance(node, yaml.MappingNode):
        return
    seen: set[str] = set()
    for key, _ in node.value:
        name, line = str(key.value), key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode) or key.tag == _NULL:
            raise ConfigurationError(f"{what}, line {line}: expected the name of a field before ':', got {name[:40]!r}")
        if name in seen:
            raise ConfigurationError(f"{what}, line {line}: {name!r} is given twice; remove one")
        seen.add(name)
