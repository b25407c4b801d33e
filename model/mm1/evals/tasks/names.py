"""Names of tasks on the command line: ``vqa``, ``vqa@0,4`` (shots), ``vqav2:testdev`` (split), ``vqav2:testdev@0,4``."""

from __future__ import annotations

from typing import NamedTuple

from mm1.config.values import parse_integer, quoted
from mm1.errors import ConfigurationError


class TaskName(NamedTuple):
    """A task with the split and the shots of its name."""

    base: str
    split: str | None
    shots: tuple[int, ...] | None

    def __str__(self) -> str:
        shots = "" if self.shots is None else "@" + ",".join(map(str, self.shots))
        return self.base + (f":{self.split}" if self.split else "") + shots


def parse_name(name: str) -> TaskName:
    """Split ``vqav2:testdev@0,4`` into task, split and shots, which are None if the name has none.

    Raises:
        ConfigurationError: the shots are not numbers, or a part is empty.
    """
    rest, has_shots, shots = name.partition("@")
    base, has_split, split = rest.partition(":")
    if not base or (has_split and not split):
        raise ConfigurationError(f"task {quoted(name)}: expected task, task:split or task@shots, for example vqa@0,4")
    try:
        numbers = tuple(map(parse_integer, shots.split(","))) if has_shots else None
    except ValueError:
        raise ConfigurationError(
            f"task {quoted(name)}: expected numbers of demonstrations after @, for example vqa@0,4"
        ) from None
    return TaskName(base, split or None, numbers)


def parse_shots(text: str) -> tuple[int, ...]:
    """Parse numbers of demonstrations, separated by spaces.

    Raises:
        ConfigurationError: the text is something else.
    """
    try:
        return tuple(map(parse_integer, text.split()))
    except ValueError:
        raise ConfigurationError(
            f"shots: expected numbers separated by spaces, for example '0 4 8', got {quoted(text)}"
        ) from None
