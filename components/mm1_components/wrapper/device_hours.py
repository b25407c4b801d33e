"""Budgets in device hours as inputs and outputs of steps: text, because an empty one means no limit."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mm1.config.values import parse_number
from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import Limit

DeviceHoursField = Annotated[
    Limit,
    Field(
        description="device hours (wall time times processes) that this run may spend on the training, all its attempts "
        "together; then it saves a checkpoint and ends with exit code 88; empty = no limit"
    ),
]
DIGITS = 6
"""Decimals of an hour: milliseconds."""


def parse_device_hours(text: str) -> float | None:
    """Parse a budget; None = no limit.

    Raises:
        ConfigurationError: not a number, or negative.
    """
    if not text:
        return None
    try:
        hours = parse_number(text)
    except ValueError as error:
        raise ConfigurationError(f"device_hours: {error}; set a number of hours, or nothing for no limit") from None
    if hours < 0:
        raise ConfigurationError(f"device_hours: expected a number of at least 0, got {text}")
    return hours


def check_device_hours(device_hours: str) -> None:
    """Check that a budget can be parsed."""
    parse_device_hours(device_hours)


def device_hours_text(hours: float | None) -> str:
    """Format a budget, or what is left of it, as an input or output; a negative rest is 0."""
    return "" if hours is None else f"{max(0.0, hours):.{DIGITS}f}".rstrip("0").rstrip(".")
