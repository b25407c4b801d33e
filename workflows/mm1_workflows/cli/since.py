"""Parsing of ``--since``: an age or a date."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from mm1.errors import ConfigurationError

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def parse_since(text: str, now: datetime | None = None) -> datetime | None:
    """Parse an age (90m, 12h, 7d), or a date or time (UTC by default).

    Raises:
        ConfigurationError: it is neither.
    """
    if not text:
        return None
    try:
        if match := re.fullmatch(r"([0-9]{1,9})([mhd])", text):
            return (now or datetime.now(UTC)) - timedelta(**{UNITS[match[2]]: int(match[1])})
        time = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"--since: expected an age such as 90m, 12h or 7d, or a date such as 2026-11-24, got {text!r}"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
