"""Human-readable values of runs."""

from __future__ import annotations


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
