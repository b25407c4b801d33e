"""The supervisor's questions to the Kubernetes API: what is retried while it is away, and what each refusal means."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from kubernetes import client

from mm1.errors import ConfigurationError, NetworkError
from mm1_components.ranks.jobset.api import Cluster
from tests.support.kube_api import BROKEN, HTML, NAMESPACE, KubeApi, kube_api

JOBSET = {"metadata": {"name": "train-0"}, "spec": {}}


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with kube_api() as server:
        yield server


def cluster(api: KubeApi, *, patience_s: float = 60.0) -> tuple[Cluster, list[float]]:
    """The way to a cluster, and the pauses that it makes."""
    pauses: list[float] = []
    return Cluster(api.client, NAMESPACE, patience_s=patience_s, pause=pauses.append), pauses


@pytest.mark.parametrize("fault", [BROKEN, HTML, 500, 503, 429, 409], ids=str)
def test_a_server_that_is_away_is_asked_again_with_growing_pauses(api: KubeApi, fault: int) -> None:
    api.put("jobsets", JOBSET)
    api.faults = [fault] * 7
    way, pauses = cluster(api)
    assert way.jobset("train-0") == JOBSET
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0] and len(api.requests) == 8


def test_a_token_that_is_rotated_is_asked_for_again(api: KubeApi) -> None:
    api.put("jobsets", JOBSET)
    api.faults = [401] * 3
    way, pauses = cluster(api)
    assert way.jobset("train-0") == JOBSET and len(pauses) == 3
    api.faults = [401] * 3
    way, _ = cluster(api, patience_s=0)
    with pytest.raises(NetworkError, match="401 Unauthorized, the token is not accepted"):
        way.jobset("train-0")


def test_a_missing_permission_says_who_grants_it(api: KubeApi) -> None:
    api.faults = [403]
    way, _ = cluster(api)
    with pytest.raises(ConfigurationError, match=r"extending the deadline of Job a: .*\(403\).*the role mm1-supervisor"):
        way.set_deadline("a", 60)


def test_a_server_that_stays_away_is_a_network_error(api: KubeApi) -> None:
    api.faults = [503] * 3
    way, _ = cluster(api, patience_s=0)
    with pytest.raises(NetworkError, match=r"JobSet train-0: the Kubernetes API was unreachable for 0 s \(503"):
        way.jobset("train-0")
    assert api.faults == [503] * 2


@pytest.mark.parametrize("status", [400, 403, 422])
def test_a_refusal_is_not_repeated_and_says_why(api: KubeApi, status: int) -> None:
    api.faults = [status]
    way, pauses = cluster(api)
    with pytest.raises(
        ConfigurationError, match=rf"creating JobSet train-0: rejected by the cluster \({status}\): told to refuse"
    ):
        way.create_jobset(JOBSET)
    assert not pauses


def test_an_object_that_is_missing_is_none_and_one_that_exists_is_not_created_again(api: KubeApi) -> None:
    way, _ = cluster(api)
    assert way.jobset("train-0") is None and way.workflow("run") is None
    way.delete_jobset("train-0")
    assert way.create_jobset(JOBSET) is not None
    assert way.create_jobset(JOBSET) is None, "an earlier supervisor made it"
    way.delete_jobset("train-0")
    assert api.of("jobsets") == []


def test_a_cluster_without_jobsets_is_named(api: KubeApi) -> None:
    api.missing = {"jobsets"}
    way, _ = cluster(api)
    with pytest.raises(ConfigurationError, match="install the JobSet controller"):
        way.create_jobset(JOBSET)
    assert way.jobsets("run", "task") == []


def test_only_the_pods_of_a_jobset_are_listed(api: KubeApi) -> None:
    for name, jobset in (("a", "train-0"), ("b", "train-1")):
        labels = {"jobset.sigs.k8s.io/jobset-name": jobset}
        api.put("pods", {"metadata": {"name": name, "labels": labels}, "status": {"phase": "Running"}})
    way, _ = cluster(api)
    assert [pod["metadata"]["name"] for pod in way.pods("train-0")] == ["a"]
    assert not way.has_ended("a") and way.has_ended("gone")
    api.objects["pods", "a"]["status"]["phase"] = "Failed"
    assert way.has_ended("a")


def test_kueue_explains_what_it_holds_back_as_far_as_it_may_be_asked(api: KubeApi) -> None:
    way, _ = cluster(api)
    assert way.pending_reason("uid-1") == ""
    condition = {"type": "QuotaReserved", "status": "False", "message": "8 more nvidia.com/gpu needed"}
    workload = {"metadata": {"name": "w", "labels": {"kueue.x-k8s.io/job-uid": "uid-1"}}, "status": {"conditions": [condition]}}
    api.put("workloads", workload)
    assert way.pending_reason("uid-1") == "8 more nvidia.com/gpu needed"
    assert way.pending_reason("uid-2") == ""
    api.faults = [403]
    assert "rejected by the cluster (403)" in way.pending_reason("uid-1")


def test_a_log_is_read_line_by_line_and_that_of_a_missing_pod_is_empty(api: KubeApi) -> None:
    api.logs["a"] = ["2026-01-01T00:00:00Z step 1", "2026-01-01T00:00:01.5Z step 2 \u2713"]
    way, _ = cluster(api)
    assert list(way.follow_log("a", None)) == api.logs["a"]
    assert list(way.follow_log("gone", None)) == []
    api.faults = [400, 500]
    assert list(way.follow_log("a", None)) == [], "its container has not started"
    with pytest.raises(client.ApiException):
        list(way.follow_log("a", None))


def test_outside_a_pod_the_launcher_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigurationError, match="--launcher requires a pod of a cluster"):
        Cluster.of_this_pod()
