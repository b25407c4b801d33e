"""Cron expressions and CronWorkflows as Argo reads them (robfig/cron's standard parser), judged before anything is sent."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Iterator
from typing import Any

from mm1.config.resolve import suggest
from mm1_workflows.argo.document import Document
from mm1_workflows.authoring.profiles import Profile
from mm1_workflows.rules.finding import Finding

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
FIELDS: tuple[tuple[str, int, int, tuple[str, ...]], ...] = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, MONTHS),
    ("day of the week", 0, 6, DAYS),
)
"""Name, lowest and highest number, and names that stand for numbers from the lowest on."""
DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
POLICIES = ("Allow", "Forbid", "Replace")
SPEC_FIELDS = (
    "concurrencyPolicy",
    "failedJobsHistoryLimit",
    "schedule",
    "schedules",
    "startingDeadlineSeconds",
    "stopStrategy",
    "successfulJobsHistoryLimit",
    "suspend",
    "timezone",
    "when",
    "workflowMetadata",
    "workflowSpec",
)
COUNTS = ("failedJobsHistoryLimit", "startingDeadlineSeconds", "successfulJobsHistoryLimit")
_EVERY = re.compile(r"@every ((\d+(\.\d+)?)(h|m|s|ms))+")
_PART = re.compile(r"(?P<range>\*|\?|(?P<first>\w+)(-(?P<last>\w+))?)(/(?P<step>\d+))?")


def valid_schedule(document: Document, profile: Profile) -> Iterator[Finding]:
    """P021."""
    if document.get("kind") == "CronWorkflow":
        for where, complaint in schedule_complaints(document.get("spec") or {}):
            yield Finding("P021", f"spec.{where}", complaint)


def schedule_complaints(spec: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What Argo would refuse of a CronWorkflow's spec: field and complaint."""
    for name in spec:
        if name not in SPEC_FIELDS:
            yield name, f"unknown field; {suggest(name, SPEC_FIELDS)}"
    schedules = spec.get("schedules") or ([spec["schedule"]] if spec.get("schedule") else [])
    if not schedules:
        yield "schedules", 'expected at least one cron expression, for example "0 3 * * 6"'
    for schedule in schedules if isinstance(schedules, list) else [schedules]:
        if complaint := cron_complaint(str(schedule)):
            yield "schedules", f"{schedule!r}: {complaint}"
    zone = spec.get("timezone")
    if zone and str(zone) not in zoneinfo.available_timezones():
        near = difflib.get_close_matches(str(zone), zoneinfo.available_timezones(), n=1)
        yield "timezone", f"unknown time zone {zone!r}; {f'did you mean {near[0]!r}?' if near else 'for example Europe/Berlin'}"
    policy = spec.get("concurrencyPolicy")
    if policy and policy not in POLICIES:
        yield "concurrencyPolicy", f"expected one of {', '.join(POLICIES)}, got {policy!r}"
    for name in COUNTS:
        value = spec.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            yield name, f"expected a number of 0 or more, got {value!r}"


def cron_complaint(text: str) -> str:
    """What is wrong with a cron expression; empty when Argo can read it."""
    if text.startswith("@"):
        if text in DESCRIPTORS or _EVERY.fullmatch(text):
            return ""
        return f"unknown descriptor; known: {', '.join(DESCRIPTORS)}, @every <duration>"
    values = text.split()
    if len(values) != len(FIELDS):
        return f"expected {len(FIELDS)} fields (minute, hour, day of the month, month, day of the week), got {len(values)}"
    for value, (name, low, high, names) in zip(values, FIELDS, strict=True):
        for part in value.split(","):
            if complaint := _part_complaint(part, low, high, names):
                return f"{name} {value!r}: {complaint}"
    return ""


def _part_complaint(part: str, low: int, high: int, names: tuple[str, ...]) -> str:
    match = _PART.fullmatch(part)
    if not match:
        return "expected *, a number, a range such as 1-5, or a step such as */15"
    if match["step"] is not None and int(match["step"]) == 0:
        return "a step of 0"
    if match["first"] is None:
        return ""
    numbers = [_number(word, low, names) for word in (match["first"], match["last"]) if word is not None]
    if any(number is None or not low <= number <= high for number in numbers):
        return f"expected {low} to {high}" + (f" or {names[0]} to {names[-1]}" if names else "")
    first, *last = [number for number in numbers if number is not None]
    return "the range ends before it begins" if last and last[0] < first else ""


def _number(word: str, low: int, names: tuple[str, ...]) -> int | None:
    if word.isdigit():
        return int(word)
    return low + names.index(word.lower()) if word.lower() in names else None
