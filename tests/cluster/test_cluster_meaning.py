"""Argo itself gives the workflows of the table the meaning that the local runner gives them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mm1_workflows.authoring import profiles
from tests.support.argo_meaning import CASES, Case
from tests.support.cluster import Cluster

ENDS = {"Succeeded": "done", "Skipped": "skipped", "Failed": "failed", "Error": "failed", "Omitted": "omitted"}
RESTRICTED = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
CONTEXT = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
SMALL = {"requests": {"cpu": "10m", "memory": "16Mi"}}


def on_cluster(case: Case, cluster: Cluster) -> dict[str, Any]:
    """The workflow of a case with what its pods need in the namespace."""
    profile = profiles.read(cluster.profile)
    document = json.loads(json.dumps(case.document).replace("IMAGE", profile.image("cpu")))
    document["spec"] |= {"serviceAccountName": profile.accounts.step, "securityContext": RESTRICTED}
    for body in document["spec"]["templates"]:
        if "container" in body:
            body["container"] |= {"securityContext": CONTEXT, "resources": SMALL}
    return dict(document)


@pytest.fixture(scope="module")
def finished(cluster: Cluster) -> dict[str, dict[str, Any]]:
    """The ended workflow of each case; all run at the same time."""
    names = {}
    for name, make in CASES.items():
        text = json.dumps(on_cluster(make(), cluster))
        names[name] = cluster.kubectl("create", "--filename", "-", "--output", "name", input=text).strip().split("/")[1]
    over = ("Succeeded", "Failed", "Error")
    for workflow in names.values():
        cluster.wait(f"the end of {workflow}", lambda workflow=workflow: cluster.phase(workflow) in over, 300)
    return {name: cluster.workflow(workflow) for name, workflow in names.items()}


@pytest.mark.parametrize("name", CASES)
def test_argo_ends_tasks_as_the_table_says(finished: dict[str, dict[str, Any]], name: str) -> None:
    case, workflow = CASES[name](), finished[name]
    nodes = {
        node["displayName"]: node
        for node in workflow["status"]["nodes"].values()
        if node["name"] == f"{workflow['metadata']['name']}.{node['displayName']}"
    }
    assert {task: ENDS[nodes[task]["phase"]] for task in case.ends} == case.ends
    pods = [node["name"].rpartition(".")[2] for node in workflow["status"]["nodes"].values() if node["type"] == "Pod"]
    attempts = {task: len([pod for pod in pods if pod == task or pod.startswith(f"{task}(")]) for task in case.attempts}
    assert attempts == case.attempts
    outputs = {task: _outputs(nodes[task]) for task in case.outputs}
    assert outputs == case.outputs


def _outputs(node: dict[str, Any]) -> dict[str, str]:
    return {raw["name"]: raw["value"] for raw in node.get("outputs", {}).get("parameters", [])}
