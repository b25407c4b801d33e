"""Validation of cron expressions and CronWorkflows as Argo parses them (robfig/cron's standard parser), before submission."""

from __future__ import annotations

import difflib
import re
import zoneinfo
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic.alias_generators import to_camel

from mm1.config.base import Config
from mm1.config.resolve import complaints
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
"""Name, lowest and highest number, and names for the numbers from the lowest on."""
DESCRIPTORS = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly")
NO_TIME = 'schedules: expected at least one cron expression, for example "0 3 * * 6"'
_EVERY = re.compile(r"@every ((\d+(\.\d+)?)(h|m|s|ms))+", re.ASCII)
_PART = re.compile(r"(?P<range>\*|\?|(?P<first>\w{1,9})(-(?P<last>\w{1,9}))?)(/(?P<step>\d{1,9}))?", re.ASCII)
_ZONE = re.compile(r"(CRON_)?TZ=(?P<zone>\S*)(\s+|$)")


def _cron(text: str) -> str:
    if complaint := cron_complaint(text):
        raise ValueError(f"{text!r}: {complaint}")
    return text


def _zone(name: str) -> str:
    if name and (complaint := zone_complaint(name)):
        raise ValueError(complaint)
    return name


Count = Annotated[int, Field(ge=0)]
TimeZone = Annotated[str, AfterValidator(_zone)]
CronExpression = Annotated[str, AfterValidator(_cron)]


class CronFields(Config, strict=True, alias_generator=to_camel):
    """The common fields of a CronWorkflow and of a schedule in the chart's values."""

    schedules: list[CronExpression] = Field(default=[])
    """Cron expressions; a workflow starts at each of their times."""
    timezone: TimeZone = ""
    """Time zone of the expressions; empty = the controller's."""
    concurrency_policy: Literal["Allow", "Forbid", "Replace"] = "Allow"
    """What happens if the previous workflow is still running."""
    starting_deadline_seconds: Count | None = None
    """Seconds within which a missed start is still made up for."""
    successful_jobs_history_limit: Count | None = None
    """Number of successful workflows to keep."""
    failed_jobs_history_limit: Count | None = None
    """Number of failed workflows to keep."""
    suspend: bool = False
    """Whether the schedule is suspended."""

    @model_validator(mode="after")
    def _one_zone(self) -> Self:
        for text in self.schedules:
            if self.timezone and _ZONE.match(text):
                raise ValueError(f"{text!r} sets a time zone in addition to timezone {self.timezone!r}: remove one of them")
        return self


class CronSpec(CronFields):
    """The spec of a CronWorkflow."""

    schedule: CronExpression | None = None
    """A single expression, as in older versions of Argo."""
    stop_strategy: dict[str, Any] | None = None
    """When to stop starting workflows."""
    when: str = ""
    """Expression that decides whether a workflow starts."""
    workflow_metadata: dict[str, Any] | None = None
    """Labels and annotations of the workflows."""
    workflow_spec: dict[str, Any]
    """Spec of the workflows."""

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if not (self.schedules or self.schedule):
            raise ValueError(NO_TIME)
        return self


def valid_schedule(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P021."""
    if document.get("kind") == "CronWorkflow":
        for where, complaint in complaints(CronSpec, document.get("spec")):
            yield Finding("P021", f"spec.{where}".rstrip("."), complaint)


def zone_complaint(name: str) -> str:
    """Return the error in the name of a time zone; empty if it is valid."""
    zones = zoneinfo.available_timezones() - {"localtime"}  # a local file, which differs between machines
    if name in zones:
        return ""
    matches = difflib.get_close_matches(name, zones, n=1)
    return f"unknown time zone {name!r}; {f'did you mean {matches[0]!r}?' if matches else 'for example Europe/Berlin'}"


def cron_complaint(text: str) -> str:
    """Return the error in a cron expression; empty if Argo can parse it."""
    if match := _ZONE.match(text):
        if complaint := zone_complaint(match["zone"]):
            return complaint
        text = text[match.end() :].strip()
    if text.startswith("@"):
        if text in DESCRIPTORS or _EVERY.fullmatch(text):
            return ""
        return f"unknown descriptor; expected {', '.join(DESCRIPTORS)} or @every <duration>"
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
        return "expected a step of at least 1, got 0"
    if match["first"] is None:
        return ""
    numbers = [_number(word, low, names) for word in (match["first"], match["last"]) if word is not None]
    if any(number is None or not low <= number <= high for number in numbers):
        return f"expected {low} to {high}" + (f" or {names[0]} to {names[-1]}" if names else "")
    first, *last = [number for number in numbers if number is not None]
    return "expected a range whose end is not before its start" if last and last[0] < first else ""


def _number(word: str, low: int, names: tuple[str, ...]) -> int | None:
    if word.isdigit():
        return int(word)
    return low + names.index(word.lower()) if word.lower() in names else None
