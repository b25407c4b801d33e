"""The Pod Security Standard `restricted`: the checker against the standard's rules, and every pod that the project makes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from mm1.recipes import registry
from mm1.train.config import TrainJob
from mm1_components.ranks.jobset.jobset import Gang, manifest
from mm1_components.ranks.launcher import Layout
from mm1_components.serving.deployments import canary_of
from mm1_workflows.rules.pod_security import violations
from mm1_workflows.rules.pods import launchers, pod_of
from tests.support.restricted_pods import ALLOWED, FORBIDDEN, RESTRICTED, changed
from tests.support.serving_controller import deployment

ROOT = Path(__file__).parents[3]
COMPILED = sorted((ROOT / "workflows" / "compiled" / "argo").glob("*.yaml"))
KUBEFLOW = sorted((ROOT / "workflows" / "compiled" / "kubeflow").glob("*.yaml"))
SERVER_DEFAULTS = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""What the API server of Kubeflow 2.17 sets where a pipeline leaves it out (docs/how-to/kubeflow.md)."""
VOLUMES_OF_KUBEFLOW = {"emptyDirMounts", "pvcMount"}


def test_a_restricted_pod_has_no_violations():
    assert list(violations(RESTRICTED)) == []


@pytest.mark.parametrize("change", ALLOWED)
def test_what_the_standard_allows(change):
    assert list(violations(changed(change))) == []


@pytest.mark.parametrize(("change", "violation"), FORBIDDEN)
def test_what_the_standard_forbids(change, violation):
    found = list(violations(changed(change)))
    assert any(violation in each for each in found), found


# -- every pod of the project; those of the chart, which need Helm, are in tests/cluster/test_cluster_security.py ----------


@pytest.mark.parametrize("path", COMPILED, ids=lambda path: path.stem)
def test_pods_of_argo(path):
    document = yaml.load(path.read_text(), yaml.CSafeLoader)
    bodies = [body for body in document["spec"]["templates"] if "container" in body]
    assert bodies
    assert {body["name"]: found for body in bodies if (found := list(violations(pod_of(document, body))))} == {}


@pytest.mark.parametrize("path", [path for path in COMPILED if "--launcher=" in path.read_text()], ids=lambda path: path.stem)
def test_pods_of_ranks(path):
    config = registry.get("mm1_tiny")
    job = TrainJob(config=config, data="d", store="s3://b/p", key="k", folder="")
    started = list(launchers(yaml.load(path.read_text(), yaml.CSafeLoader)))
    assert started
    for _, launcher in started:
        for pool in launcher.pools:
            body = manifest(Gang(run="r", task="t", key="k", attempt=0), job, Layout(pool=pool), launcher)
            pod = body["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
            assert list(violations(pod)) == []


def pods_of_kubeflow(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pods of a pipeline, with the defaults of the API server."""
    _, platform = yaml.load_all(path.read_text(), yaml.CSafeLoader)
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name, settings in executors.items():
        volumes = {key for key in settings if key.endswith(("Mount", "Mounts", "Volume"))}
        assert volumes <= VOLUMES_OF_KUBEFLOW, name
        context = SERVER_DEFAULTS | settings.get("securityContext", {})
        yield name, {"containers": [{"name": "main", "securityContext": context}]}


@pytest.mark.parametrize("path", KUBEFLOW, ids=lambda path: path.stem)
def test_pods_of_kubeflow(path):
    pods = dict(pods_of_kubeflow(path))
    assert pods
    assert {name: found for name, pod in pods.items() if (found := list(violations(pod)))} == {}


def test_a_canary_is_as_restricted_as_the_pods_that_it_copies():
    live = deployment("a-model")
    live["spec"]["template"]["spec"] |= copy.deepcopy(RESTRICTED)
    live["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "MM1_MODEL"}]
    canary = canary_of(live, "another", by="run", replicas=1)
    assert list(violations(canary["spec"]["template"]["spec"])) == []
    assert canary["spec"]["template"]["spec"]["securityContext"] == RESTRICTED["securityContext"]
