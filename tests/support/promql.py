"""Metrics and labels in a query of Prometheus. Not a parser: it knows the parts of the language that our queries have."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_SELECTOR = re.compile(r"([a-zA-Z_:][\w:]*)?\s*\{([^{}]*)\}")
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^()]*)\)")
_WORD = re.compile(r"[a-zA-Z_:][\w:]*")
_RANGE = re.compile(r"\[[^\]]*\]")
_OPERATORS = {"and", "or", "unless", "bool", "offset"}
_NUMBER = re.compile(r"\b\d[\w.]*")


@dataclass
class Names:
    """What a query names."""

    metrics: dict[str, set[str]] = field(default_factory=dict)
    """Metric -> labels in its selectors."""
    grouped: set[str] = field(default_factory=set)
    """Labels in `by (...)` and the like."""


def names_of(query: str) -> Names:
    """The metrics and labels of a query."""
    names = Names()

    def selector(match: re.Match[str]) -> str:
        name, matchers = match[1], _TEXT.sub("", match[2])
        assert name, f"a selector without a metric: {match[0]}"
        labels = {part.strip() for part in re.split(r"=~|!~|!=|=|,", matchers)} - {""}
        names.metrics.setdefault(name, set()).update(labels)
        return " "

    def grouping(match: re.Match[str]) -> str:
        names.grouped.update(_WORD.findall(match[1]))
        return " "

    # Texts may contain braces.
    kept = _TEXT.sub('""', query)
    kept = _GROUPING.sub(grouping, _SELECTOR.sub(selector, _RANGE.sub(" ", kept)))
    kept = _NUMBER.sub(" ", _TEXT.sub("", kept))
    for word in re.finditer(rf"({_WORD.pattern})\s*(\()?", kept):
        if not word[2] and word[1] not in _OPERATORS:
            names.metrics.setdefault(word[1], set())
    return names
