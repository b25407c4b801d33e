"""Validation of schedules in a values file of the chart (``mm1 lint --values FILE``); Helm would render any value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from mm1.config.base import Config
from mm1.config.resolve import complaints, suggest, validate
from mm1.errors import ConfigurationError
from mm1_workflows.argo import parameters, yaml_file
from mm1_workflows.argo.document import name_of, text_of
from mm1_workflows.argo.graph import Graph
from mm1_workflows.authoring import pipelines
from mm1_workflows.authoring.load import load
from mm1_workflows.rules.cron import NO_TIME, CronFields, TimeZone
from mm1_workflows.rules.finding import Finding
from mm1_workflows.rules.names import DNS_LABEL
from mm1_workflows.rules.reading import read_workflow
from mm1_workflows.rules.values import check_braces, value_complaints

MAX_NAME = 40
"""Maximum length of a schedule's name, as in ``values.schema.json``; its CronWorkflow is named ``mm1-<name>``."""


def _argument(value: Any) -> Any:
    if not isinstance(value, str | int):
        raise ValueError(f"expected text, an integer, true or false, got {value!r}")
    return value


class Schedule(CronFields):
    """A schedule of the chart's values; ``values.schema.json`` has the same fields."""

    enabled: bool = False
    """Whether to create its CronWorkflow."""
    template: str = ""
    """Name of the WorkflowTemplate."""
    arguments: dict[str, Annotated[Any, AfterValidator(_argument)]] = Field(default={})
    """Parameters of the workflow."""
    timezone: Annotated[TimeZone, Field(min_length=1)] = "Etc/UTC"
    """Time zone of the expressions."""


class _Store(Config, strict=True, extra="ignore"):
    uri: str = ""


class _Values(Config, strict=True, extra="ignore"):
    store: _Store = _Store()
    schedules: dict[str, dict[str, Any]] = Field(default={})


def check_values_file(path: Path, profile: str) -> Iterator[Finding]:
    """Check the schedules of a values file, merged into the chart's values as Helm does.

    Args:
        path: the file.
        profile: name or file of the profile of the chart's templates.

    Raises:
        ConfigurationError: no such file, not YAML, or not values of this chart.
    """
    overrides = yaml_file.read_map(path, f"values {path}")
    defaults = yaml_file.read_map(pipelines.CHART_VALUES, "values of the chart") if pipelines.CHART_VALUES.is_file() else {}
    for name in overrides:
        if defaults and name not in (known := [*defaults, "global"]):
            raise ConfigurationError(f"values {path}: {name}: unknown field; {suggest(str(name), known)}")
    values = validate(_Values, merged(defaults, overrides), f"values {path}")
    templates = _templates(profile) if values.schedules else {}
    for name, schedule in values.schedules.items():
        if len(name) > MAX_NAME or not DNS_LABEL.fullmatch(name):
            complaint = f"expected a name of lower-case letters, digits and '-' of at most {MAX_NAME} characters"
            yield Finding("P021", f"schedules.{name}", complaint)
        yield from _check(f"schedules.{name}", schedule, templates, values.store.uri)


def merged(base: Any, given: Any) -> Any:
    """Merge values into others as Helm does: maps are merged, null removes a key, other values are replaced."""
    if not isinstance(given, dict):
        return given
    defaults = base if isinstance(base, dict) else {}
    return {name: merged(defaults.get(name), value) for name, value in (defaults | given).items() if value is not None}


def _templates(profile: str) -> dict[str, Graph]:
    """Return the chart's workflow templates by name."""
    documents = [load(f"{pipelines.PREFIX}{name}", profile).document for name in pipelines.names()]
    return {name_of(document): read_workflow(document) for document in documents}


def _check(where: str, schedule: dict[str, Any], templates: Mapping[str, Graph], store: str) -> Iterator[Finding]:
    wrong = complaints(Schedule, schedule)
    yield from (Finding("P021", f"{where}.{name}".rstrip("."), complaint) for name, complaint in wrong)
    enabled, template, arguments = schedule.get("enabled"), schedule.get("template", ""), schedule.get("arguments", {})
    if enabled and not schedule.get("schedules"):
        yield Finding("P021", where, NO_TIME)
    if any(name.partition(".")[0] in ("template", "arguments") for name, _ in wrong) or not (enabled or template):
        return
    if template not in templates:
        yield Finding("P005", f"{where}.template", f"no template {template!r}; {suggest(template, list(templates))}")
        return
    for complaint in _argument_complaints(templates[template], arguments, store):
        yield Finding("P022", f"{where}.arguments", complaint)


def _argument_complaints(workflow: Graph, arguments: Mapping[str, Any], store: str) -> Iterator[str]:
    given = {name: text_of(value) or "" for name, value in arguments.items()}
    try:
        check_braces(given)
        known = parameters.check(workflow, given | ({"store": store} if store and "store" not in given else {}))
    except ConfigurationError as error:
        yield str(error).partition("\nparameters of ")[0]
        return
    yield from (f"{field}: {complaint}" for field, complaint in value_complaints(workflow, known, on_cluster=True))
