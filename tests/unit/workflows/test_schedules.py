"""Cron expressions, CronWorkflows, and the schedules of a values file of the chart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mm1.config.resolve import complaints
from mm1.errors import ConfigurationError
from mm1_workflows.authoring import pipelines
from mm1_workflows.rules import schedules
from mm1_workflows.rules.cron import CronSpec, cron_complaint

CHART = Path(__file__).parents[3] / "charts" / "mm1"


@pytest.mark.parametrize(
    "text",
    [
        "0 3 * * 6",
        "*/15 * * * *",
        "0 0,12 1-15 jan,JUL mon-fri",
        "5/10 ? * ? SUN",
        "@daily",
        "@every 1h30m",
        "0 0 29 2 *",
        "TZ=Europe/Berlin 0 3 * * *",
        "CRON_TZ=UTC @daily",
    ],
)
def test_schedules_that_argo_reads(text: str) -> None:
    assert cron_complaint(text) == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("61 25 * * *", "minute '61': expected 0 to 59"),
        ("0 24 * * *", "hour '24'"),
        ("0 0 0 * *", "day of the month '0': expected 1 to 31"),
        ("0 0 * 13 *", "month '13'"),
        ("0 0 * * 7", "day of the week '7': expected 0 to 6 or sun to sat"),
        ("0 0 * * funday", "day of the week"),
        ("0 0 * *", "expected 5 fields"),
        ("0 0 * * * *", "expected 5 fields"),
        ("*/0 * * * *", "a step of at least 1, got 0"),
        ("30-10 * * * *", "not before its start"),
        ("1,,2 * * * *", "minute"),
        ("@fortnightly", "unknown descriptor"),
        ("@every soon", "unknown descriptor"),
        ("", "expected 5 fields"),
        ("TZ=Mars/Base 0 3 * * *", "unknown time zone 'Mars/Base'"),
        ("TZ=UTC", "expected 5 fields"),
        ("TZ=UTC TZ=UTC 0 3 * * *", "expected 5 fields"),
        ("² * * * *", "minute '²'"),
        ("\u0661 * * * *", "minute"),
        (f"{'9' * 5000} * * * *", "minute"),
    ],
)
def test_schedules_that_argo_refuses(text: str, words: str) -> None:
    assert words in cron_complaint(text)


@given(st.lists(st.text(alphabet="0123456789*/-,?abcjanmo@ ", max_size=6), min_size=1, max_size=6))
def test_any_text_gets_an_answer(values: list[str]) -> None:
    assert isinstance(cron_complaint(" ".join(values)), str)


def test_fields_of_a_cron_workflow() -> None:
    good = {"schedules": ["0 3 * * 6"], "timezone": "Europe/Berlin", "workflowSpec": {}}
    for change in ({}, {"suspend": True, "startingDeadlineSeconds": 0}, {"schedules": ["TZ=UTC 0 3 * * *"], "timezone": ""}):
        assert complaints(CronSpec, good | change) == []
    for change, where in (
        ({"schedule": "x"}, "schedule"),
        ({"schedules": ["0 3 * * 6", "61 * * * *"]}, "schedules.1"),
        ({"schedules": "0 3 * * 6"}, "schedules"),
        ({"schedules": [5]}, "schedules.0"),
        ({"schedules": []}, ""),
        ({"schedules": ["TZ=UTC 0 3 * * *"]}, ""),
        ({"timezone": "Mars/Base"}, "timezone"),
        ({"timezone": "localtime"}, "timezone"),
        ({"concurrencyPolicy": "Sometimes"}, "concurrencyPolicy"),
        ({"startingDeadlineSeconds": -1}, "startingDeadlineSeconds"),
        ({"startingDeadlineSeconds": True}, "startingDeadlineSeconds"),
        ({"suspend": "yes"}, "suspend"),
        ({"suspnd": True}, "suspnd"),
    ):
        assert [name for name, _ in complaints(CronSpec, good | change)] == [where]


def findings(folder: Path, text: str) -> list[str]:
    path = folder / "values.yaml"
    path.write_text(text)
    return [str(finding) for finding in schedules.check_values_file(path, "default")]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "global: {a: 1}",
        "schedules: {retrain: {enabled: true, arguments: {recipe: mm1_tiny}}}",
        "schedules: {retrain: {arguments: {seed: 1, recipe: null}}}",
        "schedules: {retrain: null}",
        "schedules: {later: {enabled: false}}",
        'schedules: {a-1: {enabled: true, template: mm1-full, schedules: ["@daily"], timezone: Europe/Berlin}}',
        "store: {uri: s3://bucket/prefix}\nschedules: {retrain: {enabled: true}}",
    ],
)
def test_values_are_laid_over_those_of_the_chart(text: str, tmp_path: Path) -> None:
    assert findings(tmp_path, text) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schedules: {retrain: {arguments: [a]}}", "P021 schedules.retrain.arguments: expected a map"),
        ("schedules: {retrain: {arguments: {5: 0}}}", "P021 schedules.retrain.arguments.5"),
        ("schedules: {retrain: {arguments: {seed: 0.5}}}", "P021 schedules.retrain.arguments.seed: expected text, an integer"),
        ("schedules: {retrain: {arguments: {sed: 1}}}", "P022 schedules.retrain.arguments: unknown parameter 'sed'"),
        ('schedules: {retrain: {arguments: {question: "a {{ b"}}}', "P022 schedules.retrain.arguments: parameter question"),
        ('schedules: {retrain: {schedules: "0 3 * * 6"}}', "P021 schedules.retrain.schedules: expected a list"),
        ("schedules: {retrain: {enabled: true, schedules: []}}", "P021 schedules.retrain: schedules: expected at least one"),
        (
            'schedules: {retrain: {schedules: ["TZ=UTC 0 3 * * 6"]}}',
            "schedules.retrain: 'TZ=UTC 0 3 * * 6' sets a time zone",
        ),
        ('schedules: {retrain: {suspend: "yes"}}', "P021 schedules.retrain.suspend: expected true or false, got 'yes'"),
        ("schedules: {retrain: {enabeld: true}}", "P021 schedules.retrain.enabeld: unknown field; did you mean 'enabled'"),
        ("schedules: {retrain: {timezone: localtime}}", "P021 schedules.retrain.timezone: unknown time zone"),
        ("schedules: {A_B: {}}", "P021 schedules.A_B: expected a name"),
        (f"schedules: {{{'a' * 41}: {{}}}}", "of at most 40 characters"),
    ],
)
def test_a_schedule_that_the_chart_or_argo_would_refuse(text: str, words: str, tmp_path: Path) -> None:
    (finding,) = findings(tmp_path, text)
    assert words in finding


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("schedules: [1]", "schedules: expected a map, got \\[1\\]"),
        ("schedules: {a: 5}", "schedules.a: expected a map, got 5"),
        ("store: x", "store: expected a map, got 'x'"),
        ("schedle: 5", "schedle: unknown field; did you mean 'schedules'"),
        ("a: [", "invalid YAML"),
        ("a: 2020-99-99", "invalid YAML"),
        ("- 1", "expected one map, got a list of 1"),
    ],
)
def test_what_is_no_values_file(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=words):
        findings(tmp_path, text)


def test_an_installation_without_the_chart_checks_what_the_file_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines, "CHART_VALUES", tmp_path / "none.yaml")
    assert findings(tmp_path, 'schedules: {a: {enabled: true, template: mm1-full, schedules: ["@daily"]}}') == []
    assert len(findings(tmp_path, "schedules: {a: {enabled: true, template: mm1-full}}")) == 1


def test_the_fields_are_those_of_the_charts_schema() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert {info.alias for info in schedules.Schedule.model_fields.values()} == set(
        schema["definitions"]["schedule"]["properties"]
    )
    assert schema["properties"]["schedules"]["propertyNames"]["maxLength"] == schedules.MAX_NAME
    assert pipelines.CHART_VALUES == CHART / "values.yaml"
    own = yaml.safe_load(pipelines.CHART_VALUES.read_text())
    assert schedules.merged(own, {}).keys() == own.keys()
