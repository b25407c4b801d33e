"""Every value of the chart changes what Helm renders, once its section is switched on."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from mm1_workflows.rules.schedules import merged
from tests.support.helm import CHART, Helm, HelmError, small_chart_at
from tests.support.values import at, leaves, with_value

VALUES = yaml.safe_load((CHART / "values.yaml").read_text())
MODEL = f"s3://data/store/manifests/{'0' * 64}.json"
ENABLED: dict[str, Any] = {
    "profile": "small",
    "store": {"secret": "keys", "uri": "s3://mm1/store"},
    "accounts": {"executor": {"create": True}},
    "schedules": {"retrain": {"enabled": True, "template": "mm1-small", "arguments": {"needed": "x"}}},
    "queue": {"clusterQueue": "research", "quota": {"fast": {"cpu": 1, "memory": "1Gi"}}},
    "artifactRepository": {"enabled": True, "bucket": "artifacts"},
    "networkPolicy": {"kubeflow": {"enabled": True}},
    "serving": {
        "enabled": True,
        "model": MODEL,
        "image": "registry.example/trainer:1",
        "verifyKey": {"configMap": "key"},
        "apiKey": {"secret": "key"},
    },
    "monitoring": {part: {"enabled": True} for part in ("podMonitor", "serviceMonitor", "rules", "dashboards")},
}
"""Values with which everything but the alternatives below is rendered."""
ALTERNATIVES: dict[str, dict[str, Any]] = {
    "trial.": {"trial": {"enabled": True}},
    "serving.autoscaling.": {"serving": {"autoscaling": {"enabled": True}}},
    "serving.gateway.": {"serving": {"gateway": {"enabled": True, "parentRefs": [{"name": "public"}]}}},
    "serving.verifyKey.secret": {"serving": {"verifyKey": {"configMap": ""}, "requireSignature": False}},
    "serving.rollout.enabled": {"serving": {"rollout": {"enabled": True}, "model": ""}},
}
"""Beginning of a path -> values without which, or instead of others, it has its effect."""
PEERS = [{"ipBlock": {"cidr": "10.0.0.0/8"}}]
OTHERS: dict[str, Any] = {
    "accounts.executor.name": "other",
    "artifactRepository.endpoint": "s3.example:9000",
    "monitoring.rules.alertLabels": {"team": "vision"},
    "monitoring.rules.disabled": ["Mm1ServingSlow"],
    **{f"networkPolicy.{name}.to": PEERS for name in ("dns", "store", "kubeflow", "kubernetesApi")},
    **{f"networkPolicy.{name}.from": PEERS for name in ("serving", "monitoring")},
    **{f"networkPolicy.{name}.ports": [1] for name in ("store", "kubeflow", "kubernetesApi")},
    "monitoring.rules.thresholds.lossRatio": 2.5,
    "networkPolicy.extraEgress": [{"ports": [{"port": 1}]}],
    "networkPolicy.identity.provider": "gke",
    "profile": "other",
    "queue.preemption": {"reclaimWithinCohort": "Any"},
    "queue.priorities": {"high": 1},
    "queue.quota": {"fast": {"cpu": 2, "memory": "1Gi"}},
    "schedules.retrain.arguments": {"needed": "y"},
    "schedules.retrain.concurrencyPolicy": "Allow",
    "schedules.retrain.schedules": ["@daily"],
    "schedules.retrain.template": "mm1-hidden",
    "schedules.retrain.timezone": "Europe/Berlin",
    "serving.dtype": "float32",
    "serving.imagePullPolicy": "Always",
    "serving.imagePullSecrets": [{"name": "registry"}],
    "accounts.imagePullSecrets": [{"name": "registry"}],
    "serving.logFormat": "json",
    "serving.maxTokens": 9,
    "serving.model": MODEL.replace("0", "1"),
    "serving.resources.limits": {"cpu": "3"},
    "serving.resources.requests": {"cpu": "3"},
    "serving.runAsUser": 9,
    "serving.service.type": "NodePort",
    "serving.tolerations": [{"operator": "Exists"}],
    "serving.verifyKey.configMap": "other",
    "serving.corsOrigins": ["*"],
    "serving.imageHosts": ["*"],
    "serving.gateway.parentRefs": [{"name": "other"}],
    "serving.gateway.hostnames": ["mm1.example.org"],
    "serving.volumes": [{"claim": "data", "mountPath": "/data"}],
    "store.uri": "s3://mm1/other",
    "submitters": [{"kind": "User", "name": "somebody"}],
    "trial.resources.limits": {"cpu": "3"},
    "trial.resources.requests": {"cpu": "3"},
}
"""Path -> another valid value, where its type does not tell one."""


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with small workflow templates, one of which trains in the pool `fast`, and a second profile."""
    folder = small_chart_at(tmp_path_factory.mktemp("chart") / "mm1")
    shutil.rmtree(folder / "files" / "default")
    shutil.rmtree(folder / "files" / "smoke")
    small = folder / "files" / "small" / "small.yaml"
    container = "      image: localhost/debian-python:3.11\n"
    trains = container + "      envFrom: [{secretRef: {name: keys}}]\n      ports: [{name: metrics, containerPort: 9464}]\n"
    small.write_text(
        small.read_text()
        .replace(container, trains)
        .replace("      args:\n", '      args:\n      - \'--launcher={"pools": {"fast": {}}}\'\n')
        .replace("    - {name: needed}\n", "    - {name: needed}\n    - {name: store, value: s3://mm1/store}\n")
    )
    other = folder / "files" / "other"
    other.mkdir()
    for path in (folder / "files" / "small").iterdir():
        (other / path.name).write_text(path.read_text().replace("limits: {cpu: 500m", "limits: {cpu: 400m"))
    return folder


@pytest.fixture(scope="module")
def helm(chart: Path) -> Helm:
    """The newer version of Helm, if it is installed; both render the same."""
    if shutil.which("helm") is None:
        pytest.skip("helm is not on the PATH; the test bed's `testbed build` makes it")
    return Helm("helm", chart, dict(os.environ))


@pytest.fixture(scope="module")
def rendered(helm: Helm) -> Callable[[dict[str, Any]], str]:
    """Renders values, each once."""
    texts: dict[str, str] = {}

    def render(values: dict[str, Any]) -> str:
        key = json.dumps(values)
        if key not in texts:
            lines = helm.text(values).splitlines()
            texts[key] = "\n".join(line for line in lines if not line.startswith("  AWS_"))  # the trial's generated keys
        return texts[key]

    return render


def other_value(path: str, value: Any) -> Any:
    if path in OTHERS:
        return OTHERS[path]
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2
    if isinstance(value, list):
        return [*value, "x"]
    if isinstance(value, dict):
        return {"added": "x"}
    return f"1{value}"  # names, durations, quantities


def base_of(path: str) -> dict[str, Any]:
    values = copy.deepcopy(ENABLED)
    for beginning, more in ALTERNATIVES.items():
        if path.startswith(beginning):
            values = merged(values, more)
    return values


@pytest.mark.parametrize("path", sorted(leaves(VALUES)))
def test_a_value_changes_the_rendering(rendered: Callable[[dict[str, Any]], str], path: str) -> None:
    base = base_of(path)
    before = at(base, path) if path in leaves(base) else at(VALUES, path)
    changed = with_value(base, path, other_value(path, before))
    original = rendered(base)
    try:
        assert rendered(changed) != original, f"{path}: {before!r} and {at(changed, path)!r} render the same"
    except HelmError as error:
        # A contradiction, which the checks name, is an effect, too.
        assert "execution error" in str(error) and path.partition(".")[0] in str(error), error
