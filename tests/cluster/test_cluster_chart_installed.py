"""The chart in a namespace of its own, by both versions of Helm: schedule, a run, the served model, and no leavings."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.cluster import Cluster
from tests.support.helm import BINARIES, Helm, everything, installed, second_namespace, small_chart_at

VALUES = {
    "profile": "small",
    "accounts": {"executor": {"create": True}, "imagePullSecrets": [{"name": "registry"}]},
    "submitters": [{"kind": "Group", "name": "engineers"}, {"kind": "ServiceAccount", "name": "events"}],
    "schedules": {
        "retrain": {"enabled": True, "template": "mm1-small", "arguments": {"needed": "on time"}, "schedules": ["* * * * *"]}
    },
}
GPUS = {"cpu": 320, "memory": "3200Gi", "nvidia.com/gpu": 16}
KUEUE = ("ClusterQueue", "ResourceFlavor", "WorkloadPriorityClass", "LocalQueue")


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Cluster]:
    with second_namespace(cluster, "chart") as there:
        yield there


@pytest.fixture(scope="module")
def small_chart(tmp_path_factory) -> Path:
    return small_chart_at(tmp_path_factory.mktemp("chart") / "mm1")


@pytest.fixture(scope="module", params=BINARIES)
def helm(request, place, small_chart) -> Helm:
    return Helm(request.param, small_chart, place.environment)


@pytest.fixture(scope="module")
def release(place, helm) -> Iterator[str]:
    """The small profile's release with a schedule; its notes."""
    with installed(place, helm, VALUES) as notes:
        yield notes


def test_the_notes_say_how_to_go_on(release):
    assert "mm1-small" in release and "Schedule mm1-retrain: mm1-small at * * * * * (Etc/UTC)." in release
    assert "get secret mm1-store" in release and "WARNING" not in release


def start(place: Cluster, template: str, needed: str) -> str:
    """Start a run from a workflow template; its name."""
    spec = {
        "workflowTemplateRef": {"name": template},
        "arguments": {"parameters": [{"name": "needed", "value": needed}]},
    }
    body = {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow", "metadata": {"generateName": "run-"}, "spec": spec}
    return place.kubectl("create", "--filename=-", "--output=jsonpath={.metadata.name}", input=json.dumps(body)).strip()


def said(workflow: dict[str, Any]) -> str:
    [output] = [
        parameter["value"]
        for node in workflow["status"]["nodes"].values()
        for parameter in node.get("outputs", {}).get("parameters", [])
    ]
    return str(output)


def test_a_run_from_a_workflow_template_succeeds(place, release):
    workflow = place.finished(start(place, "mm1-small", "by hand"), 120)
    assert workflow["status"]["phase"] == "Succeeded", workflow["status"].get("message")
    assert said(workflow) == "1 by hand token"


def test_a_step_sees_no_token_when_the_executor_has_its_own(place, release):
    workflow = place.finished(start(place, "mm1-hidden", "by hand"), 120)
    assert workflow["status"]["phase"] == "Succeeded", workflow["status"].get("message")
    assert said(workflow) == "1 by hand no token"


IDENTITY = "/var/run/secrets/eks.amazonaws.com/serviceaccount"
CLAIMS = f"""
import base64, json, os
claims = open("{IDENTITY}/token").read().split(".")[1]
print(json.dumps(json.loads(base64.urlsafe_b64decode(claims + "==")) | {{
    "api": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token")
}}))
"""


@pytest.mark.parametrize("account", ["mm1-rank", "mm1-serve"])
def test_pods_without_a_token_of_the_api_get_that_of_an_identity_and_the_pull_secrets(place, release, account):
    """The volume is the one that the webhook of IRSA adds to pods."""
    token = {"serviceAccountToken": {"audience": "sts.amazonaws.com", "expirationSeconds": 86400, "path": "token"}}
    container = {
        "name": "main",
        "image": "localhost/debian-python:3.11",
        "command": ["python3", "-c", CLAIMS],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "500m", "memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "identity", "mountPath": IDENTITY, "readOnly": True}],
    }
    spec = {
        "restartPolicy": "Never",
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "identity", "projected": {"sources": [token]}}],
    }
    name = f"identity-{account}"
    place.apply(place.object("v1", "Pod", name, spec=spec))
    try:
        ended = place.wait(name, lambda: place.get("pod", name)["status"]["phase"] in ("Succeeded", "Failed"), 60)
        claims = json.loads(place.kubectl("logs", name))
        pod = place.get("pod", name)
    finally:
        place.kubectl("delete", "pod", name, "--wait=false")
    assert ended and claims["aud"] == ["sts.amazonaws.com"] and claims["api"] is False
    assert claims["sub"] == f"system:serviceaccount:{place.namespace}:{account}"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]


def test_the_schedule_fires(place, release):
    # What the notes say: Argo may have met the schedule before its template, and would look again only after minutes.
    [command] = re.findall(r"^ +kubectl .* annotate cronworkflow .*$", release, re.MULTILINE)
    place.run(*command.split())

    def fired() -> list[dict[str, Any]]:
        runs = place.items("workflows", "mm1.dev/schedule=retrain")
        return [one for one in runs if one.get("status", {}).get("phase") == "Succeeded"]

    runs = place.wait("a scheduled run to succeed", fired, 180)
    assert said(runs[0]) == "1 on time token"
    place.kubectl("patch", "cronworkflow", "mm1-retrain", "--type=merge", "--patch", '{"spec": {"suspend": true}}')


def test_an_event_starts_the_run_of_the_schedule_by_a_post_to_argo(place, release):
    """With the arguments of the schedule, and the rights of a submitter alone."""
    place.apply(place.object("v1", "ServiceAccount", "events"))
    try:
        token = place.kubectl("create", "token", "events", "--duration=10m").strip()
        body = {"namespace": place.namespace, "resourceKind": "CronWorkflow", "resourceName": "mm1-retrain"}
        scheme = "http" if place.environment.get("ARGO_SECURE") == "false" else "https"
        url = f"{scheme}://{place.environment['ARGO_SERVER']}/api/v1/workflows/{place.namespace}/submit"
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as reply:
            made = json.load(reply)["metadata"]
    finally:
        place.kubectl("delete", "serviceaccount", "events")
    assert made["labels"]["mm1.dev/schedule"] == "retrain"
    workflow = place.finished(made["name"], 120)
    assert workflow["status"]["phase"] == "Succeeded" and said(workflow) == "1 on time token"


def test_the_cluster_takes_everything_that_can_be_switched_on(place, release, helm):
    """Not made, but checked by the API server, with Pod Security's warnings as errors."""
    values = VALUES | {
        "profile": "default",
        "schedules": {"retrain": {"enabled": True}},
        "queue": {
            "clusterQueue": f"{place.namespace}-made",
            "cohort": "mm1-test",
            "quota": {"train-h100": GPUS | {"cpu": {"nominalQuota": 320, "borrowingLimit": 8}}, "eval-l40s": GPUS},
            "preemption": {"withinClusterQueue": "LowerPriority", "reclaimWithinCohort": "Any"},
            "priorities": {f"{place.namespace}-high": 1000},
        },
        "trial": {"enabled": True, "port": 7071},
        "networkPolicy": {"identity": {"provider": "gke"}, "kubeflow": {"enabled": True}},
        "artifactRepository": {"enabled": True, "bucket": "artifacts", "endpoint": "s3.example:9000"},
        "serving": {
            "enabled": True,
            "model": f"{place.store}/manifests/{'0' * 64}.json",
            "verifyKey": {"configMap": "mm1-verify-key"},
            "apiKey": {"secret": "mm1-api-key"},
            "corsOrigins": ["https://chat.example.com"],
            "replicas": 2,
            "nodeSelector": {"mm1.dev/pool": "serve-l40s"},
            "tolerations": [{"key": "mm1.dev/pool", "operator": "Exists"}],
            "environment": {"EXTRA": True},
            "volumes": [{"claim": "deps", "mountPath": "/opt/deps"}],
            "runAsUser": 65532,
        },
    }
    text = helm.text(values, place.namespace)
    place.kubectl(
        "create",
        "--dry-run=server",
        "--validate=strict",
        "--warnings-as-errors",
        "--filename=-",
        input=text_of_new(place, text),
    )


def text_of_new(place: Cluster, text: str) -> str:
    """The objects of a rendering that are not there yet (creating one twice is refused, also in a dry run)."""
    there = everything(place)
    objects = [one for one in yaml.safe_load_all(text) if one]
    known = {(name.partition("/")[0].partition(".")[0], name.partition("/")[2]) for name in there}
    new = [one for one in objects if (one["kind"].lower(), one["metadata"]["name"]) not in known]
    kinds = {"Deployment", "Service", "PodDisruptionBudget", *KUEUE, "ConfigMap", "WorkflowTemplate", "PersistentVolumeClaim"}
    assert kinds <= {one["kind"] for one in new}
    return yaml.safe_dump_all(new)
