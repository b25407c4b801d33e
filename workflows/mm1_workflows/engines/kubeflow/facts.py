"""The facts of a workflow in an engine-independent form, for comparing the files of two engines.

References have a common form (``<param seed>``, ``<mix.manifest>``, ``<item>``, ``<run>``, ``<status>``,
``<output manifest>``), names have underscores, and unordered collections are sets.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

Pairs = frozenset[tuple[str, ...]]


@dataclass(frozen=True)
class StepFacts:
    """Facts of a step."""

    image: str
    argv: tuple[str, ...]
    """Command and arguments, with references in the common form."""
    before: frozenset[str] = frozenset()
    """Steps that it depends on."""
    condition: str = ""
    loop: str = ""
    at_exit: bool = False
    resources: Pairs = frozenset()
    """(requests.cpu, 1), (limits.memory, 2Gi), (accelerator, name, number)."""
    selector: Pairs = frozenset()
    tolerations: Pairs = frozenset()
    """(key, operator, value, effect, seconds)."""
    secrets: Pairs = frozenset()
    """(secret, key, variable)."""
    environment: Pairs = frozenset()
    mounts: Pairs = frozenset()
    """(path, kind, what, size)."""
    labels: Pairs = frozenset()
    retry: tuple[float, ...] = ()
    """Limit, wait in s, factor; empty = none. (A maximum wait is part of the loss `retry`.)"""
    timeout_s: int = 0


@dataclass(frozen=True)
class Facts:
    """Facts of a workflow."""

    name: str
    parameters: Pairs
    """(name, default); (name,) if it is required."""
    deadline_s: int
    steps: dict[str, StepFacts]


def differences(first: Facts, second: Facts) -> list[str]:
    """Return the differences, one line per step and field."""
    lines = [
        f"{field}: {getattr(first, field)!r} / {getattr(second, field)!r}"
        for field in ("name", "deadline_s")
        if getattr(first, field) != getattr(second, field)
    ]
    lines += _sets("parameters", first.parameters, second.parameters)
    lines += _sets("steps", set(first.steps), set(second.steps))
    for name in sorted(first.steps.keys() & second.steps.keys()):
        for field in fields(StepFacts):
            left, right = getattr(first.steps[name], field.name), getattr(second.steps[name], field.name)
            if isinstance(left, frozenset):
                lines += _sets(f"{name}.{field.name}", left, right)
            elif left != right:
                lines.append(f"{name}.{field.name}: {left!r} / {right!r}")
    return lines


def _sets(what: str, first: Iterable[Any], second: Iterable[Any]) -> list[str]:
    left, right = set(first) - set(second), set(second) - set(first)
    return [f"{what}: {sorted(left)} / {sorted(right)}"] if left or right else []


def plain_name(name: str) -> str:
    """Convert the name of a parameter or output to the form that both engines allow."""
    return name.replace("-", "_").replace(".", "_")


def plain_value(value: Any) -> str:
    """Normalize a default value: ``4``, ``4.0`` and ``"4"`` are equal, and so are a list and its JSON."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return json.dumps(value)
    text = str(value)
    try:
        parsed = json.loads(text)
    except ValueError:
        return text
    if isinstance(parsed, int | float) and not isinstance(parsed, bool):
        return repr(float(parsed))
    return json.dumps(parsed) if isinstance(parsed, list) else text
