"""The chart's objects for Prometheus and Grafana, as Helm renders them, where Helm is installed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from mm1_workflows.monitoring import alerts, dashboards
from tests.support.helm import BINARIES, CHART, Helm, named, small_chart_at
from tests.support.network import End, may_connect

MODEL = f"s3://data/store/manifests/{'0' * 64}.json"
SERVING = {"enabled": True, "model": MODEL, "verifyKey": {"configMap": "mm1-verify-key"}}
PARTS = ("podMonitor", "serviceMonitor", "rules", "dashboards")
RELEASE = {"labels": {"release": "prometheus"}}
IMAGE = {"image": "registry.example/trainer@sha256:" + "1" * 64}
"""Of the server in the profile `small`, which has no step `deploy`."""
ALL = {"serving": SERVING, "monitoring": {part: {"enabled": True, **RELEASE} for part in PARTS}}
Objects = list[dict[str, Any]]
Small = Callable[[dict[str, Any]], Objects]


@pytest.fixture(params=BINARIES, scope="module")
def helm(request: pytest.FixtureRequest) -> Helm:
    """Both versions of Helm, if they are installed."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not on the PATH; the test bed's `testbed build` makes it")
    return Helm(request.param, CHART, dict(os.environ))


@pytest.fixture(scope="module")
def small(helm: Helm, tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Renders the chart with one small workflow template, which takes a tenth of the time."""
    folder = small_chart_at(tmp_path_factory.mktemp("chart") / "mm1")
    return lambda values: Helm(helm.binary, folder, helm.environment).objects({"profile": "small", **values})


@pytest.fixture(scope="module")
def everything(helm: Helm) -> Objects:
    return helm.objects(ALL, namespace="vision")


def kinds(objects: Objects) -> set[str]:
    return {item["kind"] for item in objects}


def test_nothing_of_it_is_rendered_by_default(small: Small) -> None:
    assert not kinds(small({})) & {"PodMonitor", "ServiceMonitor", "PrometheusRule", "ConfigMap"}


def test_alerts_and_scrapes_of_a_server_need_the_server(small: Small) -> None:
    objects = small({"monitoring": ALL["monitoring"]})
    assert "ServiceMonitor" not in kinds(objects)
    groups = named(objects, "PrometheusRule", "mm1")["spec"]["groups"]
    assert [group["name"] for group in groups] == [alerts.TRAINING]


def test_prometheus_finds_supervisors_and_servers(everything: Objects) -> None:
    pods = named(everything, "PodMonitor", "mm1-training")
    assert pods["spec"]["selector"]["matchLabels"] == {"app.kubernetes.io/part-of": "mm1", "mm1.dev/role": "supervisor"}
    assert pods["spec"]["podMetricsEndpoints"] == [{"port": "metrics", "interval": "30s", "scrapeTimeout": "10s"}]
    service, scraped = named(everything, "Service", "mm1-serve"), named(everything, "ServiceMonitor", "mm1-serve")
    assert scraped["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert [item["port"] for item in scraped["spec"]["endpoints"]] == [service["spec"]["ports"][0]["name"]]
    for item in (pods, scraped):
        assert item["spec"]["namespaceSelector"] == {"matchNames": ["vision"]}
    for item in (pods, scraped, named(everything, "PrometheusRule", "mm1")):
        assert item["metadata"]["labels"]["release"] == "prometheus" and item["metadata"]["namespace"] == "vision"


def test_training_templates_have_what_the_monitor_selects(everything: Objects) -> None:
    monitor = named(everything, "PodMonitor", "mm1-training")["spec"]
    bodies = [body for item in everything if item["kind"] == "WorkflowTemplate" for body in item["spec"]["templates"]]
    chosen = [body for body in bodies if monitor["selector"]["matchLabels"].items() <= _labels(body).items()]
    launching = [body for body in bodies if any(word.startswith("--launcher=") for word in _arguments(body))]
    assert chosen == launching != []
    assert {port["name"] for body in chosen for port in body["container"]["ports"]} == {"metrics"}


def _labels(body: dict[str, Any]) -> dict[str, str]:
    return (body.get("metadata") or {}).get("labels") or {}


def _arguments(body: dict[str, Any]) -> list[str]:
    return (body.get("container") or {}).get("args") or []


def test_rules_are_those_of_the_definition_with_the_values_filled_in(everything: Objects) -> None:
    expected = yaml.safe_load(alerts.filled(alerts.as_text(), {"namespace": "vision"}))
    assert named(everything, "PrometheusRule", "mm1")["spec"] == expected


def test_thresholds_labels_and_exceptions_of_a_site(small: Small) -> None:
    thresholds = {"errorRatio": 0.125, "queuedSeconds": 1_000_000, "lossRatio": 2}
    disabled = ["Mm1ServingSlow", "Mm1TrainingWaitsForData"]
    rules = {"enabled": True, "namespace": "elsewhere", "thresholds": thresholds, "disabled": disabled}
    objects = small({"serving": {**SERVING, **IMAGE}, "monitoring": {"rules": {**rules, "alertLabels": {"team": "vision"}}}})
    made = named(objects, "PrometheusRule", "mm1")
    assert made["metadata"]["namespace"] == "elsewhere"
    found = {rule["alert"]: rule for group in made["spec"]["groups"] for rule in group["rules"]}
    assert set(found) == {alert.name for alert in alerts.ALERTS} - set(disabled)
    assert found["Mm1ServingErrors"]["expr"].endswith("> 0.125")
    assert "> 2 *" in found["Mm1TrainingLossSpike"]["expr"] and found["Mm1TrainingQueued"]["for"] == "1000000s"
    assert all(rule["labels"]["team"] == "vision" and rule["labels"]["namespace"] == "there" for rule in found.values())


def test_dashboards_are_the_files(everything: Objects) -> None:
    for name, make in dashboards.DASHBOARDS.items():
        made = named(everything, "ConfigMap", f"mm1-dashboard-{name}")
        assert made["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(made["data"][f"mm1-{name}.json"]) == make()


MM1 = {"app.kubernetes.io/part-of": "mm1"}
SUPERVISOR = End(MM1 | {"mm1.dev/step": "pretrain", "mm1.dev/role": "supervisor"})
RANK = End(MM1 | {"mm1.dev/role": "rank"})
SERVER = End(
    MM1 | {"app.kubernetes.io/name": "mm1", "app.kubernetes.io/instance": "mm1", "app.kubernetes.io/component": "serving"}
)
PROMETHEUS = End({"app.kubernetes.io/name": "prometheus"}, namespace="monitoring")
STRANGER = End({"app": "web"}, namespace="elsewhere")


@pytest.mark.parametrize(
    ("source", "target", "port", "allowed"),
    [
        (PROMETHEUS, SUPERVISOR, 9464, True),
        (PROMETHEUS, SUPERVISOR, 22, False),
        (PROMETHEUS, SERVER, 8000, True),
        (PROMETHEUS, RANK, 9464, False),
        (STRANGER, SUPERVISOR, 9464, False),
        (STRANGER, SERVER, 8000, False),
        (RANK, SUPERVISOR, 9464, False),
    ],
)
def test_only_prometheus_reaches_the_metrics(everything: Objects, source: End, target: End, port: int, allowed: bool) -> None:
    policies = [item for item in everything if item["kind"] == "NetworkPolicy"]
    assert may_connect(policies, source, target, port) is allowed


def test_without_monitoring_prometheus_reaches_nothing_and_the_log_of_the_server_can_be_json(
    small: Small, everything: Objects
) -> None:
    objects = small({"serving": {**SERVING, **IMAGE, "logFormat": "json"}})
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    assert not any(may_connect(policies, PROMETHEUS, target, port) for target, port in ((SUPERVISOR, 9464), (SERVER, 8000)))
    for rendered, expected in ((objects, True), (everything, False)):
        [container] = named(rendered, "Deployment", "mm1-serve")["spec"]["template"]["spec"]["containers"]
        assert ("--log-format=json" in container["args"]) is expected
