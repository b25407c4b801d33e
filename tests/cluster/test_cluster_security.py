"""Security on a real API server: every verb on every resource for each account, and the Pod Security of all pods."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from kubernetes import client, config

from mm1_workflows.rules.pod_security import violations
from tests.support.cluster import Cluster
from tests.support.helm import Helm, small_chart_at
from tests.support.restricted_pods import ALLOWED, FORBIDDEN, changed
from tests.support.rights import KSERVE, NEVER, RIGHTS, VERBS, Right, is_allowed

VALUES = {
    "profile": "small",
    "accounts": {"executor": {"create": True}},
    "submitters": [{"kind": "Group", "name": "engineers"}],
    "serving": {
        "enabled": True,
        "requireSignature": False,
        "image": "registry.example/trainer:1",
        "rollout": {"enabled": True},
        "gateway": {"enabled": True, "parentRefs": [{"name": "public"}]},
    },
}
ENFORCE = "pod-security.kubernetes.io/enforce"
OF_ACCOUNTS = ("ServiceAccount", "Role", "RoleBinding")
REVIEWS = 8
"""Questions at the same time."""


@pytest.fixture(scope="module")
def chart(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    return Helm("helm", small_chart_at(tmp_path_factory.mktemp("chart") / "mm1"), cluster.environment)


@pytest.fixture(scope="module")
def place(cluster: Cluster, chart: Helm) -> Iterator[Cluster]:
    """A restricted namespace that only has the chart's accounts, their Roles and bindings."""
    there = Cluster(f"{cluster.namespace}-rights", cluster.environment, cluster.tool, cluster.profile, cluster.store)
    there.run("kubectl", "create", "namespace", there.namespace)
    there.run("kubectl", "label", "namespace", there.namespace, f"{ENFORCE}=restricted")
    there.apply(*(each for each in chart.objects(VALUES, there.namespace) if each["kind"] in OF_ACCOUNTS))
    yield there
    there.run("kubectl", "delete", "namespace", there.namespace, "--wait=false")


@pytest.fixture(scope="module")
def review(place: Cluster) -> Iterator[client.AuthorizationV1Api]:
    with config.new_client_from_config(place.environment["KUBECONFIG"]) as api:
        yield client.AuthorizationV1Api(api)


@pytest.fixture(scope="module")
def resources(place: Cluster) -> list[tuple[str, str]]:
    """Group and name of every resource of a namespace that the server has, with its subresources."""
    groups = ["/api/v1", *(f"/apis/{name}" for name in place.kubectl("api-versions").split() if "/" in name)]
    found = set()
    for path in groups:
        listed: dict[str, Any] = json.loads(place.kubectl("get", "--raw", path))
        group = path.split("/")[2] if path.startswith("/apis/") else ""
        found |= {(group, each["name"]) for each in listed["resources"] if each["namespaced"]}
    return sorted(found)


def subject(account: str, namespace: str) -> dict[str, Any]:
    """The user and the groups of an account, as the API server sees them."""
    if account == "mm1-submitter":
        return {"user": "somebody", "groups": ["engineers", "system:authenticated"]}
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    return {"user": f"system:serviceaccount:{namespace}:{account}", "groups": groups}


def allowed(review: client.AuthorizationV1Api, who: dict[str, Any], namespace: str, rights: set[Right]) -> set[Right]:
    """The rights in a namespace that the API server allows somebody."""

    def is_granted(right: Right) -> bool:
        resource, _, subresource = right.resource.partition("/")
        attributes = {"namespace": namespace, "group": right.group, "resource": resource, "verb": right.verb}
        attributes |= {"subresource": subresource, "name": right.name}
        body = {"spec": {**who, "resourceAttributes": attributes}}
        return bool(review.create_subject_access_review(body).status.allowed)

    asked = sorted(rights)
    with ThreadPoolExecutor(REVIEWS) as executor:
        return {right for right, granted in zip(asked, executor.map(is_granted, asked), strict=True) if granted}


@pytest.mark.parametrize("account", RIGHTS)
def test_an_account_may_do_what_the_table_has_and_nothing_else(place, review, resources, account):
    """Also of objects with the names of the table, and of others. The release serves without KServe."""
    granted = RIGHTS[account] - KSERVE
    named = {(right.group, right.resource) for right in RIGHTS[account] if right.name}
    names = {right.name for right in RIGHTS[account]} | {"another"}
    asked = {Right(*resource, verb) for resource in resources for verb in VERBS}
    asked |= {Right(*resource, verb, name) for resource in named for verb in VERBS for name in names}
    asked |= RIGHTS[account] | set(NEVER)
    assert len(asked) > 500, "the server lists its resources"
    expected = {right for right in asked if is_allowed(granted, right)}
    assert allowed(review, subject(account, place.namespace), place.namespace, asked) == expected


@pytest.mark.parametrize("account", RIGHTS)
def test_an_account_has_no_rights_in_other_namespaces(place, review, account):
    assert allowed(review, subject(account, place.namespace), "default", RIGHTS[account] | set(NEVER)) == set()


# -- Pod Security ------------------------------------------------------------------------------------------------------


def is_refused(place: Cluster, pod: dict[str, Any]) -> bool | None:
    """Whether the standard refuses a pod, which is not created; None if it is invalid for another reason."""
    body = place.object("v1", "Pod", "asked", spec=pod)
    done = place.run("kubectl", "create", "--dry-run=server", "--filename=-", input=json.dumps(body), check=False)
    is_other = done.returncode != 0 and "PodSecurity" not in done.stderr
    return None if is_other else done.returncode != 0


def test_the_namespace_of_the_tests_enforces_the_standard(cluster):
    labels = json.loads(cluster.run("kubectl", "get", "namespace", cluster.namespace, "--output=json").stdout)["metadata"][
        "labels"
    ]
    assert labels[ENFORCE] == "restricted"


def test_the_checker_agrees_with_kubernetes(place):
    """On every case of its own tests, except the few that are invalid for another reason."""
    pods = [changed(change) for change in [*ALLOWED, *(change for change, _ in FORBIDDEN)]]
    for container in [each for pod in pods for each in [*pod["containers"], *pod.get("initContainers", [])]]:
        container["image"] = "registry.example/image:1"
    pairs = [(is_refused(place, pod), list(violations(pod))) for pod in pods]
    compared = [(refused, found) for refused, found in pairs if refused is not None]
    assert len(compared) > 24
    assert [(refused, found) for refused, found in compared if refused != bool(found)] == []


def test_pods_of_the_chart(place, chart):
    """Deployments, and the pods of Helm's tests; with every option that adds a container or a volume."""
    serving = VALUES["serving"] | {"volumes": [{"claim": "data", "mountPath": "/data"}], "verifyKey": {"secret": "verify"}}
    objects = chart.objects(VALUES | {"serving": serving}, place.namespace)
    pods = [each["spec"] for each in objects if each["kind"] == "Pod"]
    pods += [each["spec"]["template"]["spec"] for each in objects if "template" in each.get("spec", {})]
    assert pods
    for pod in pods:
        assert list(violations(pod)) == [] and is_refused(place, pod) is False
