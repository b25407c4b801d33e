"""The chart without Helm: its values, their schema, the table in its README, and what its templates may not do."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from mm1_workflows.authoring import profiles
from mm1_workflows.monitoring.alerts import ALERTS, THRESHOLDS
from tests.support.values import leaves, with_value

CHART = Path(__file__).parents[3] / "charts" / "mm1"
VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
TEMPLATES = sorted((CHART / "templates").iterdir())


def changed(path: str, value: Any) -> dict[str, Any]:
    return with_value(VALUES, path, value)


def refusals(values: dict[str, Any]) -> list[str]:
    return [error.json_path for error in jsonschema.Draft7Validator(SCHEMA).iter_errors(values)]


def test_the_defaults_fit_the_schema():
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert refusals(VALUES) == []


@pytest.mark.parametrize("path", sorted(leaves(VALUES)))
def test_every_value_has_a_type(path):
    """A value that is none of text, number, list and map is refused wherever it stands."""
    kinds = {"text": "?!", "number": -1.5, "list": [None], "map": {"?!": [None]}}
    refused = {kind for kind, wrong in kinds.items() if refusals(changed(path, wrong))}
    assert len(refused) >= 3, f"{path} takes almost anything: refused only as {refused}"


@pytest.mark.parametrize(("cidr", "fits"), [("10.0.0.0/8", True), ("fd00::/8", True), ("nope", False), ("10.0.0.0", False)])
def test_an_address_range_is_one(cidr, fits):
    peers = [{"ipBlock": {"cidr": cidr}}]
    assert (refusals(changed("networkPolicy.store.to", peers)) == []) == fits


def paths_of_maps(value: Any, path: str = "") -> list[str]:
    own = [path] if isinstance(value, dict) else []
    return (
        own + [found for key, below in value.items() for found in paths_of_maps(below, f"{path}.{key}".lstrip("."))]
        if own
        else []
    )


FREE = {  # maps whose keys are the user's
    *(
        f"accounts.{role}.{kind}"
        for role in ("step", "supervisor", "rank", "serve", "rollout")
        for kind in ("annotations", "labels")
    ),
    "accounts.annotations",
    "accounts.labels",
    *(f"monitoring.{part}.labels" for part in ("podMonitor", "serviceMonitor", "rules", "dashboards")),
    "monitoring.dashboards.annotations",
    "monitoring.rules.alertLabels",
    "queue.preemption",
    "queue.priorities",
    "queue.quota",
    "schedules",
    "schedules.retrain.arguments",
    "serving.environment",
    "serving.nodeSelector",
    "serving.podAnnotations",
    "serving.resources.limits",
    "serving.resources.requests",
    "serving.service.annotations",
    "trial.resources.limits",
    "trial.resources.requests",
}


@pytest.mark.parametrize("path", sorted(set(paths_of_maps(VALUES)) - FREE))
def test_a_misspelt_name_is_refused(path):
    assert refusals(changed(f"{path}.enabeld".lstrip("."), True))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("store.secret", "has_underscore"),
        ("store.uri", "/a/folder"),
        ("accounts.imagePullSecrets", ["registry"]),
        ("accounts.imagePullSecrets", [{"name": "my_registry"}]),
        ("accounts.annotations", {"eks.amazonaws.com/role-arn": 1}),
        ("accounts.rank.labels", {"app.kubernetes.io/name": "other"}),
        ("accounts.labels", {"team": "of vision"}),
        ("submitters", [{"kind": "Robot", "name": "x"}]),
        ("schedules.retrain.concurrencyPolicy", "forbid"),
        ("schedules.retrain.arguments", {"weights": [1, 2]}),
        ("serving.model", "s3://mm1/store/manifests/latest.json"),
        ("serving.resources.limits", {"memory": "8 GB"}),
        ("serving.volumes", [{"claim": "deps"}]),
        ("serving.runAsUser", 0),
        ("serving.maxTokens", 0),
        ("serving.corsOrigins", ["chat.example.com"]),
        ("serving.imageHosts", ["https://images.example.com"]),
        ("serving.apiKey.secret", "has_underscore"),
        ("serving.verifyKey.key", "../other"),
        ("serving.podAnnotations", {"mm1.dev/model": "s3://mm1/store/manifests/x.json"}),
        ("serving.gateway.parentRefs", [{"namespace": "gateways"}]),
        ("serving.gateway.hostnames", ["https://mm1.example.org"]),
        ("serving.autoscaling.minReplicas", 0),
        ("serving.autoscaling.waitingPerPod", 0.5),
        ("serving.dtype", "int8"),
        ("networkPolicy.store.ports", []),
        ("networkPolicy.identity.provider", "azure"),
        ("networkPolicy.kubeflow.to", []),
        ("networkPolicy.kubeflow.ports", ["http"]),
        ("queue.quota", {"train-h100": {"cpu": "many"}}),
        ("queue.quota", {"train-h100": {"cpu": {"borrowingLimit": 1}}}),
        ("queue.preemption", {"withinClusterQueue": "Sometimes"}),
        ("queue.priorities", {"high": "very"}),
        ("queue.priorities", {"High": 1}),
        ("trial.command", "minio server /data"),
        ("trial.runAsUser", 0),
        ("networkPolicy.monitoring.from", []),
        ("monitoring.podMonitor.interval", "30"),
        ("monitoring.rules.disabled", ["NoSuchAlert"]),
        ("monitoring.rules.thresholds.queuedSeconds", 0),
        ("monitoring.rules.thresholds.lossRatio", 1),
        ("monitoring.rules.thresholds.errorRatio", 5),
        ("monitoring.rules.labels", {"app.kubernetes.io/name": "other"}),
        ("monitoring.dashboards.namespace", "has_underscore"),
        ("serving.logFormat", "xml"),
        ("artifactRepository.secret", None),
        ("artifactRepository.endpoint", "https://s3.example"),
    ],
)
def test_what_cannot_work_is_refused(path, value):
    assert any(place.startswith(f"$.{path}") for place in refusals(changed(path, value)))


def test_the_readme_lists_every_value_with_its_default():
    rows = re.findall(
        r"^\| `([\w.]+)` \| (.+?) \| .*\|$", (CHART / "README.md").read_text().partition("\n## Values\n")[2], re.M
    )
    described = dict(rows)
    assert len(described) == len(rows)
    assert set(described) == set(leaves(VALUES))
    in_words = {f"networkPolicy.{name}" for name in ("dns.to", "store.to", "kubeflow.to", "serving.from")}
    in_words |= {"trial.image", "trial.command"}
    shown = {path: yaml.safe_load(text.strip("`")) for path, text in described.items() if path not in in_words}
    assert shown == {path: default for path, default in leaves(VALUES).items() if path not in in_words}


def test_thresholds_are_those_of_the_alerts():
    assert VALUES["monitoring"]["rules"]["thresholds"] == {name: item.default for name, item in THRESHOLDS.items()}


def test_an_alert_that_is_left_out_exists():
    rules = SCHEMA["properties"]["monitoring"]["properties"]["rules"]["properties"]
    assert rules["disabled"]["items"]["enum"] == [alert.name for alert in ALERTS]


def test_accounts_secret_port_and_queue_are_those_of_the_profile():
    profile = profiles.read("default")
    assert VALUES["networkPolicy"]["monitoring"]["port"] == profile.metrics_port
    assert VALUES["store"]["secret"] == VALUES["artifactRepository"]["secret"] == profile.environment_secret
    accounts = profile.accounts.model_dump()
    assert {role: VALUES["accounts"][role]["name"] for role in accounts} == accounts


def test_helm_never_evaluates_a_workflow_template():
    """Nothing in the chart hands file contents to the template engine, and Argo's braces stand in strings only."""
    for path in TEMPLATES:
        text = path.read_text()
        assert not re.search(r"\btpl\b", text), f"{path.name}: tpl would evaluate Argo's braces"
        outside = re.sub(r'"[^"\n]*"', '""', text)
        assert not re.search(r"\{\{-?\s*(workflow|inputs|tasks|pod)\.", outside), f"{path.name}: Argo's braces"


def test_only_the_quota_and_the_priorities_of_kueue_are_cluster_scoped():
    kinds = {path.name: set(re.findall(r"^kind: (\w+)$", path.read_text(), re.M)) for path in TEMPLATES}
    scoped = {"ClusterQueue", "ResourceFlavor", "WorkloadPriorityClass"}
    assert kinds.pop("queue.yaml") == {"LocalQueue", *scoped}
    other = set().union(*kinds.values())
    assert {"CronWorkflow", "Deployment", "Role", "NetworkPolicy"} <= other
    assert not {kind for kind in other if kind.startswith("Cluster")} | other & {"Namespace", "PriorityClass", *scoped}


def test_no_right_is_given_by_wildcard():
    for path in TEMPLATES:
        assert not re.search(r"(verbs|resources|apiGroups):.*\*", path.read_text()), path.name
