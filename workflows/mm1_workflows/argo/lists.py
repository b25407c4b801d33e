"""The outputs of a loop as one JSON list, written as Argo writes it.

Read from ``aggregatedJSONValueList`` in workflow/controller/operator.go of Argo Workflows 4.0.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

_ESCAPES = str.maketrans({letter: f"\\u{ord(letter):04x}" for letter in "<>&\u2028\u2029"})
"""What Go's JSON escapes besides what JSON requires."""


def listed(values: Sequence[str]) -> str:
    """Return the values of an output of all items: texts, or the lists and objects in them if all are such JSON."""
    decoded = [_decoded(value) for value in values]
    items = list(values) if any(item is None for item in decoded) else decoded
    return json.dumps(items, ensure_ascii=False, separators=(",", ":"), sort_keys=True).translate(_ESCAPES)


def _decoded(value: str) -> list[Any] | dict[str, Any] | None:
    try:
        tree = json.loads(value)
    except ValueError:
        return None
    return tree if isinstance(tree, list | dict) else None
