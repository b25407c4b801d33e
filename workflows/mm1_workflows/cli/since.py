"""``--since``: a time back from now, or a date."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from mm1.errors import ConfigurationError

UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def parse_since(text: str, now: datetime | None = None) -> datetime | None:
    """A time back from now (90m, 12h, 7d), or a date or time (UTC unless it says otherwise).

    Raises:
        ConfigurationError: it is neither.
    """
    if not text:
        return None
    try:
        if match := re.fullmatch(r"([0-9]{1,9})([mhd])", text):
            return (now or datetime.now(UTC)) - timedelta(**{UNITS[match[2]]: int(match[1])})
        given = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"--since {text!r}: expected a time like 90m, 12h or 7d, or a date like 2026-11-24") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)
