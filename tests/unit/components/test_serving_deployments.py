"""The Deployments that serve, through the Kubernetes API: the canary, the journal, weights of the route, and pods."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

import pytest

from mm1.errors import ConfigurationError
from mm1_components.serving.deployments import DeploymentCluster, canary_of
from mm1_components.serving.objects import ServingNamespace, pod_of
from mm1_components.serving.state import Canary, Journal, Pod
from tests.support.kube_api import NAMESPACE, KubeApi, kube_api
from tests.support.serving_controller import LABELS, Controller, deployment


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with kube_api() as made:
        yield made


@pytest.fixture
def cluster(api) -> DeploymentCluster:
    Controller(api)
    return DeploymentCluster(ServingNamespace(api.client, NAMESPACE), "mm1-serve")


def test_a_canary_is_a_copy_with_another_model_that_the_deployment_owns(api):
    live = deployment("old", replicas=5)
    before = copy.deepcopy(live)
    body = canary_of(live, "new", "run weekly", 2)
    assert live == before, "the copy is deep"
    spec, metadata = body["spec"], body["metadata"]
    assert metadata["name"] == "mm1-serve-canary" and metadata["annotations"]["mm1.dev/by"] == "run weekly"
    assert metadata["labels"] == {"app.kubernetes.io/part-of": "mm1", "mm1.dev/track": "canary"}, "not Helm's or Argo CD's"
    assert metadata["ownerReferences"] == [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "mm1-serve", "uid": "uid-serve"}
    ]
    assert spec["replicas"] == 2 and spec["selector"]["matchLabels"] == LABELS | {"mm1.dev/track": "canary"}
    assert spec["template"]["metadata"] == {
        "labels": LABELS | {"mm1.dev/track": "canary"},
        "annotations": {"mm1.dev/model": "new"},
    }
    assert spec["template"]["spec"] == live["spec"]["template"]["spec"]


def test_a_canary_of_an_older_template_is_not_current(api, cluster):
    api.put("deployments", deployment("old"))
    assert cluster.canary() is None
    cluster.start_canary("new", "run weekly", 1)
    cluster.start_canary("other", "run other", 1)
    canary = cluster.canary()
    assert (canary.model, canary.by, canary.is_current, canary.is_ending) == ("new", "run weekly", True, False)
    cluster.set_model("another", None)
    assert cluster.canary().is_current, "another model is not another template"
    api.objects["deployments", "mm1-serve"]["spec"]["template"]["spec"]["containers"][0]["image"] = "newer"
    assert not cluster.canary().is_current
    cluster.remove_canary(Canary(uid="of another one", model="new", by="run weekly"))
    assert cluster.canary() is not None
    cluster.remove_canary(canary)
    assert cluster.canary() is None


def test_model_and_journal_are_written_together_and_removed(api, cluster):
    api.put("deployments", deployment("old"))
    journal = Journal(by="run weekly", model="new", before="old", phase="promoting", analysis={"questions": 3})
    cluster.set_model("new", journal)
    assert [line for line in api.requests if line.startswith("PATCH")] == ["PATCH deployments mm1-serve"]
    assert cluster.served().model == "new" and cluster.served().journal == journal
    cluster.set_model("", None)
    served = cluster.served()
    assert (served.model, served.journal) == ("", None)
    api.objects["deployments", "mm1-serve"]["metadata"]["annotations"] = {"mm1.dev/rollout": "by hand"}
    assert cluster.served().journal is None


@pytest.mark.parametrize(
    ("status", "complete"),
    [
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, True),
        ({"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}, False),
        ({"observedGeneration": 2, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3}, False),
        ({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, False),
        ({}, False),
    ],
)
def test_a_deployment_is_complete_when_all_pods_are_new_and_ready(api, cluster, status, complete):
    body = deployment("old", replicas=2)
    body["metadata"]["generation"], body["status"] = 2, status
    api.put("deployments", body)
    api.on_request = lambda _: None
    assert cluster.served().is_complete is complete


def test_the_route_gets_the_weight_of_the_canary(api, cluster):
    api.put("deployments", deployment("old"))
    cluster.set_canary_weight(30)
    assert not [line for line in api.requests if "httproutes" in line], "no route, no request"
    api.put("deployments", deployment("old", **{"mm1.dev/route": "mm1-serve"}))
    with pytest.raises(ConfigurationError, match="HTTPRoute mm1-serve does not exist"):
        cluster.set_canary_weight(30)
    backends = [
        {"name": f"mm1-serve-{track}", "port": 80, "weight": weight} for track, weight in (("stable", 100), ("canary", 0))
    ]
    rules = [{"backendRefs": backends, "timeouts": {"request": "60s"}}]
    api.put("httproutes", {"metadata": {"name": "mm1-serve"}, "spec": {"parentRefs": [{"name": "g"}], "rules": rules}})
    cluster.set_canary_weight(30)
    [rule] = api.objects["httproutes", "mm1-serve"]["spec"]["rules"]
    assert [backend["weight"] for backend in rule["backendRefs"]] == [70, 30] and rule["timeouts"]
    count = len(api.requests)
    cluster.set_canary_weight(30)
    assert not [line for line in api.requests[count:] if line.startswith("PATCH")], "nothing to change"


def test_only_the_living_pods_of_a_model_and_track_count(api, cluster):
    api.put("deployments", deployment("old", replicas=0))
    api.on_request = lambda _: None
    for name, model, track, ending in (
        ("a", "old", "stable", False),
        ("b", "new", "stable", False),
        ("c", "old", "canary", False),
        ("d", "old", "stable", True),
    ):
        metadata = {"name": name, "labels": LABELS | {"mm1.dev/track": track}, "annotations": {"mm1.dev/model": model}}
        metadata |= {"deletionTimestamp": "now"} if ending else {}
        api.put("pods", {"metadata": metadata, "spec": {"containers": [{"name": "main"}]}, "status": {}})
    assert [pod.name for pod in cluster.pods("old", of_canary=False)] == ["a"]
    assert [pod.name for pod in cluster.pods("old", of_canary=True)] == ["c"]


def pod(phase: str = "Running", address: str = "10.0.0.1", **container: Any) -> Pod:
    status = {"phase": phase, "podIP": address, "containerStatuses": [{"name": "main"} | container]}
    ports = [{"name": "http", "containerPort": 8000}]
    return pod_of({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main", "ports": ports}]}, "status": status})


def test_a_pod_is_described_by_its_address_and_its_failure():
    assert pod() == Pod("p", "http://10.0.0.1:8000", is_ready=False)
    assert pod(address="fd00::1").url == "http://[fd00::1]:8000" and pod(address="").url == ""
    ended = {"terminated": {"exitCode": 86, "reason": "Error"}}
    assert pod(state=ended).failure == "the server ended (checkpoint): exit code 86"
    assert pod(lastState=ended, restartCount=1).failure == "the server ended (checkpoint): exit code 86"
    assert pod(restartCount=1).failure == "the server was restarted"
    killed = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    assert pod(state=killed).failure == "the server ended (out of memory): the container was killed: out of memory"
    waiting = {reason: {"waiting": {"reason": reason, "message": "no"}} for reason in ("ErrImagePull", "ImagePullBackOff")}
    assert pod("Pending", state=waiting["ErrImagePull"]).failure == ""
    assert pod("Pending", state=waiting["ErrImagePull"]).pending == "ErrImagePull: no"
    assert pod("Pending", state=waiting["ImagePullBackOff"]).failure == "ImagePullBackOff: no"
    assert pod("Failed").failure.startswith("Failed")


def test_the_journal_survives_json():
    journal = Journal(by="b", model="m", before="", phase="undoing", reason="why", analysis={"ready_s": 1.5})
    assert Journal.model_validate(json.loads(journal.model_dump_json())) == journal
