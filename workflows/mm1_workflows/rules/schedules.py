"""Schedules in a values file of the chart: Helm renders any value, so they are judged here (``mm1 lint --values FILE``)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1_workflows.argo import parameters
from mm1_workflows.argo.document import name_of, text_of
from mm1_workflows.argo.graph import Graph
from mm1_workflows.authoring import pipelines
from mm1_workflows.authoring.load import load
from mm1_workflows.rules.cron import SPEC_FIELDS, schedule_complaints
from mm1_workflows.rules.finding import Finding
from mm1_workflows.rules.reading import read_workflow
from mm1_workflows.rules.values import value_complaints

OWN_FIELDS = ("enabled", "suspend", "template", "arguments")
"""Fields of a schedule that the chart itself reads."""


def check_values_file(path: Path, profile: str) -> Iterator[Finding]:
    """What is wrong with the schedules of a values file.

    Args:
        path: the file.
        profile: name or file of the profile that the chart's templates were made for.

    Raises:
        ConfigurationError: no such file, not YAML, or not values of a chart.
    """
    try:
        values = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigurationError(f"values {path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"values {path}: not YAML: {error}") from None
    values = {} if values is None else values
    if not isinstance(values, dict) or not isinstance(values.get("schedules") or {}, dict):
        raise ConfigurationError(f"values {path}: expected a map, with a map of names under schedules")
    schedules = values.get("schedules") or {}
    templates = _templates(profile) if schedules else {}
    store = str((values.get("store") or {}).get("uri") or "")
    for name, schedule in schedules.items():
        yield from _check(f"schedules.{name}", schedule or {}, templates, store)


def _templates(profile: str) -> dict[str, Graph]:
    """The chart's workflow templates by name."""
    documents = [load(f"{pipelines.PREFIX}{name}", profile).document for name in pipelines.names()]
    return {name_of(document): read_workflow(document) for document in documents}


def _check(where: str, schedule: dict[str, Any], templates: Mapping[str, Graph], store: str) -> Iterator[Finding]:
    fields = {name: value for name, value in schedule.items() if name not in OWN_FIELDS}
    for name, complaint in schedule_complaints({field: value for field, value in fields.items() if field in SPEC_FIELDS}):
        yield Finding("P021", f"{where}.{name}", complaint)
    template = schedule.get("template")
    workflow = templates.get(str(template))
    if workflow is None:
        yield Finding("P005", f"{where}.template", f"no template {template!r}; {suggest(str(template), list(templates))}")
        return
    given = {name: text_of(value) or "" for name, value in (schedule.get("arguments") or {}).items()}
    try:
        known = parameters.check(workflow, given | ({"store": store} if store else {}))
    except ConfigurationError as error:
        yield Finding("P022", f"{where}.arguments", str(error).partition("\nparameters of ")[0])
        return
    for place, complaint in value_complaints(workflow, known, on_cluster=True):
        yield Finding("P022", f"{where}.arguments", f"{place}: {complaint}")
