"""Human-readable figures and results of runs."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

LONGEST_SCALAR = 40
"""Characters of an output that are printed."""
_ADDRESS = re.compile(r"/manifests/[0-9a-f]{64}\.json")
_ITEM = re.compile(r"\w+://[^\s()]*/manifests/([0-9a-f]{12})[0-9a-f]{52}\.json")


def count(number: int, noun: str, of: int | None = None) -> str:
    """Format a number with its noun: ``1 file``, ``2 files``, ``1 of 2 files``."""
    total = number if of is None else of
    return f"{number}{'' if of is None else f' of {of}'} {noun}{'s' * (total != 1)}"


def listed(names: Collection[str], most: int = 3) -> str:
    """List the first names and count the rest: ``a, b, c and 4 more``."""
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(list(names)[:most]) + rest


def duration(seconds: float | None) -> str:
    """Format a duration: 0.4 s, 12 s, 6 min 40 s, 3 h 05 min; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def split_labels(evaluated: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
    """Name each evaluated task and split: the task, with its split if there are several of it (``vqav2:val``)."""
    pairs = list(dict.fromkeys(evaluated))
    tasks = [task for task, _ in pairs]
    return {(task, split): task if tasks.count(task) == 1 else f"{task}:{split}" for task, split in pairs}


def short_name(task: str) -> str:
    """Abbreviate the address of a manifest in the name of a loop's item: ``filter(0:2ca65762c199)``."""
    return _ITEM.sub(r"\1", task)


def scalars(outputs: Mapping[str, Any]) -> str:
    """Outputs of a step that are no manifests: ``decision=retrain new_shards=3``; long values and JSON are cut.

    Args:
        outputs: name -> value, as text or as in a run record.
    """
    return " ".join(f"{name}={_scalar(value)}" for name, value in outputs.items() if name != "manifest")


def _scalar(value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())
    if text.startswith(("[", "{")) and (addresses := _ADDRESS.findall(text)):
        return f"[{count(len(addresses), 'manifest')}]"
    return text if len(text) <= LONGEST_SCALAR else f"{text[: LONGEST_SCALAR - 1]}…"
