"""``--since``: a time back from now, or a date."""

from __future__ import annotations

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
    amount, unit = text[:-1], text[-1]
    if unit in UNITS and amount.isdigit():
        return (now or datetime.now(UTC)) - timedelta(**{UNITS[unit]: int(amount)})
    try:
        given = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(f"--since {text!r}: expected a time like 90m, 12h or 7d, or a date like 2026-11-24") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)
