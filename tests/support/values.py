"""Paths into a chart's values."""

from __future__ import annotations

import copy
from typing import Any


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Every value that a person would set: path -> default. Resources and lists are set as a whole."""
    if isinstance(value, dict) and value and not path.endswith((".requests", ".limits")):
        return {name: leaf for key, below in value.items() for name, leaf in leaves(below, f"{path}.{key}".lstrip(".")).items()}
    return {path: value}


def at(values: dict[str, Any], path: str) -> Any:
    """The value at a path."""
    for name in path.split("."):
        values = values[name]
    return values


def with_value(values: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at a path."""
    result = copy.deepcopy(values)
    *parents, last = path.split(".")
    place = result
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value
    return result
