"""What a workflow says, free of any engine's way to say it: the form in which two engines' files are compared.

References are written alike (``<param seed>``, ``<mix.manifest>``, ``<item>``, ``<run>``, ``<status>``, ``<output manifest>``),
names with underscores, sets where order means nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

Pairs = frozenset[tuple[str, ...]]


@dataclass(frozen=True)
class StepFacts:
    """One step."""

    image: str
    argv: tuple[str, ...]
    """Command and arguments, references spelled alike."""
    before: frozenset[str] = frozenset()
    """Steps that must have ended."""
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
    """Limit, wait in s, factor; empty = none. (A longest wait is part of the loss `retry`.)"""
    timeout_s: int = 0


@dataclass(frozen=True)
class Facts:
    """One workflow."""

    name: str
    parameters: Pairs
    """(name, default); (name,) when it must be given."""
    deadline_s: int
    steps: dict[str, StepFacts]


def differences(one: Facts, other: Facts) -> list[str]:
    """What differs, one line per step and field; empty when both say the same."""
    found = [
        f"{field}: {getattr(one, field)!r} / {getattr(other, field)!r}"
        for field in ("name", "deadline_s")
        if getattr(one, field) != getattr(other, field)
    ]
    found += _sets("parameters", one.parameters, other.parameters)
    found += _sets("steps", set(one.steps), set(other.steps))
    for name in sorted(one.steps.keys() & other.steps.keys()):
        for field in fields(StepFacts):
            left, right = getattr(one.steps[name], field.name), getattr(other.steps[name], field.name)
            if isinstance(left, frozenset):
                found += _sets(f"{name}.{field.name}", left, right)
            elif left != right:
                found.append(f"{name}.{field.name}: {left!r} / {right!r}")
    return found


def _sets(what: str, one: Iterable[Any], other: Iterable[Any]) -> list[str]:
    left, right = set(one) - set(other), set(other) - set(one)
    return [f"{what}: {sorted(left)} / {sorted(right)}"] if left or right else []


def plain_name(name: str) -> str:
    """A parameter's or output's name as both engines can write it."""
    return name.replace("-", "_").replace(".", "_")


def plain_value(value: Any) -> str:
    """A default value whatever its type: ``4``, ``4.0`` and ``"4"`` are the same, so are a list and its JSON."""
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
