"""Workload identity and pull secrets end to end, Kubeflow's pods, and Kueue: compiled templates together with the chart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from mm1.recipes import registry
from mm1.train.config import TrainJob
from mm1_components.ranks.jobset.jobset import Gang, manifest
from mm1_components.ranks.jobset.names import PRIORITY_LABEL, QUEUE_LABEL
from mm1_components.ranks.launcher import Launcher, Layout
from mm1_workflows.engines import yaml as compiler
from tests.support.helm import Helm, named, small_chart_at
from tests.support.network import End, may_connect
from tests.unit.charts.conftest import helm_at

ROOT = Path(__file__).parents[3]
SITE: dict[str, Any] = {
    "store": "s3://my-bucket/mm1",
    "environment_secret": "",
    "environment": {"S3_ENDPOINT": "https://s3.eu-central-1.amazonaws.com", "AWS_REGION": "eu-central-1"},
    "queue": "mm1",
    "priority": "mm1-high",
}
ROLE = {"eks.amazonaws.com/role-arn": "arn:aws:iam::111122223333:role/mm1"}
VALUES: dict[str, Any] = {
    "profile": "site",
    "store": {"secret": ""},
    "accounts": {"annotations": ROLE, "imagePullSecrets": [{"name": "registry"}]},
    "artifactRepository": {"enabled": True, "bucket": "my-bucket", "secret": ""},
    "serving": {
        "enabled": True,
        "rollout": {"enabled": True},
        "requireSignature": False,
        "environment": SITE["environment"],
    },
}


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with a profile that uses the identity of the pods, in the way of docs/how-to/eks.md."""
    folder = tmp_path_factory.mktemp("site")
    chart = small_chart_at(folder / "mm1")
    (folder / "site.yaml").write_text(yaml.safe_dump(SITE))
    files = [str(ROOT / "workflows" / f"{name}.py") for name in ("full", "rollout")]
    for file in compiler.compile_all(files, ("template",), str(folder / "site.yaml"), chart / "files" / "site")[0]:
        file.path.parent.mkdir(exist_ok=True)
        file.path.write_text(file.text)
    return chart


@pytest.fixture
def helm(chart: Path) -> Helm:
    return helm_at("helm", chart)


@pytest.fixture
def objects(helm: Helm) -> list[dict[str, Any]]:
    return helm.objects(VALUES)


def bodies(objects: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """The service account and the body of each step."""
    specs = [item["spec"] for item in objects if item["kind"] == "WorkflowTemplate"]
    return [
        (body.get("serviceAccountName", spec["serviceAccountName"]), body)
        for spec in specs
        for body in spec["templates"]
        if "container" in body
    ]


def launchers(objects: list[dict[str, Any]]) -> list[Launcher]:
    words = [word for _, body in bodies(objects) for word in body["container"]["args"]]
    return [Launcher.model_validate_json(word.partition("=")[2]) for word in words if word.startswith("--launcher=")]


def test_every_pod_has_an_identity_and_pull_secrets_and_none_reads_a_secret(objects: list[dict[str, Any]]) -> None:
    accounts = {item["metadata"]["name"]: item for item in objects if item["kind"] == "ServiceAccount"}
    server = named(objects, "Deployment", "mm1-serve")["spec"]["template"]["spec"]
    used = {account for account, _ in bodies(objects)} | {one.account for one in launchers(objects)}
    used |= {server["serviceAccountName"], named(objects, "Pod", "mm1-serve-test")["spec"]["serviceAccountName"]}
    assert used == set(accounts), "and no account is without a use"
    for account in accounts.values():
        assert account["metadata"]["annotations"] == ROLE and account["imagePullSecrets"] == [{"name": "registry"}]
    specs = [body for _, body in bodies(objects)] + [server]
    assert not [spec for spec in specs if spec.get("imagePullSecrets")], "those would replace the account's"
    containers = [body["container"] for _, body in bodies(objects)] + server["containers"]
    for container in containers:
        assert "envFrom" not in container
        variables = {item["name"]: item.get("value") for item in container["env"]}
        assert variables.items() >= SITE["environment"].items()
    assert {one.environment_secret for one in launchers(objects)} == {""}
    assert [one.environment for one in launchers(objects)] == [SITE["environment"]] * len(launchers(objects))
    repository = yaml.safe_load(named(objects, "ConfigMap", "artifact-repositories")["data"]["mm1"])["s3"]
    assert repository["useSDKCreds"] is True and "accessKeySecret" not in repository


MM1 = {"app.kubernetes.io/part-of": "mm1"}
STEP, RANK = End(MM1 | {"mm1.dev/step": "ingest"}), End(MM1 | {"mm1.dev/role": "rank"})
SERVER = End(
    MM1 | {"app.kubernetes.io/name": "mm1", "app.kubernetes.io/instance": "mm1", "app.kubernetes.io/component": "serving"}
)
AGENT, AGENT_6 = End(address="169.254.170.23"), End(address="fd00:ec2::23")
STS, METADATA, METADATA_988 = End(address="52.94.1.2"), End(address="169.254.169.254"), End(address="169.254.169.252")

EKS = {(AGENT.address, 80), (AGENT_6.address, 80)}


@pytest.mark.parametrize(
    ("values", "reached"),
    [
        ({}, set()),
        ({"store": {"secret": ""}}, EKS),
        ({"artifactRepository": {"enabled": True, "bucket": "b", "secret": ""}}, EKS),
        ({"networkPolicy": {"identity": {"provider": "eks"}}}, EKS),
        ({"store": {"secret": ""}, "networkPolicy": {"identity": {"provider": "none"}}}, set()),
        ({"networkPolicy": {"identity": {"provider": "gke"}}}, {(METADATA.address, 80), (METADATA_988.address, 988)}),
    ],
)
def test_whom_pods_ask_for_credentials(helm: Helm, values: dict[str, Any], reached: set[tuple[str, int]]) -> None:
    served = {"enabled": True, "rollout": {"enabled": True}, "requireSignature": False, "image": "registry.example/trainer:1"}
    policies = [
        item for item in helm.objects({"profile": "small", "serving": served} | values) if item["kind"] == "NetworkPolicy"
    ]
    asked = [(end.address, port) for end in (AGENT, AGENT_6, METADATA, METADATA_988) for port in (80, 988, 2703)]
    for source in (STEP, RANK, SERVER):
        found = {(address, port) for address, port in asked if may_connect(policies, source, End(address=address), port)}
        assert found == reached
        assert may_connect(policies, source, STS, 443), "IRSA exchanges its token at STS"


KUBEFLOW = {
    "API server": (End({"app": "ml-pipeline"}, namespace="kubeflow"), (8887, 8888)),
    "metadata": (End({"component": "metadata-grpc-server"}, namespace="kubeflow"), (8080,)),
    "SeaweedFS behind minio-service": (End({"app": "seaweedfs"}, namespace="kubeflow"), (8333,)),
    "MinIO": (End({"app": "minio"}, namespace="kubeflow"), (9000,)),
}
"""Pods and container ports of Kubeflow Pipelines' own manifests; a policy sees the port behind the Service."""


@pytest.mark.parametrize("enabled", [True, False])
def test_kubeflows_launcher_reaches_its_services_and_its_drivers_are_free(newest: Helm, enabled: bool) -> None:
    objects = newest.objects({"profile": "small", "networkPolicy": {"kubeflow": {"enabled": enabled}}})
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    _, platform = yaml.safe_load_all((ROOT / "workflows/compiled/kubeflow/full.yaml").read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    labels = [one["podMetadata"]["labels"] for one in executors.values()]
    driver = End({"pipelines.kubeflow.org/v2_component": "true"})
    assert labels and all(one.items() >= MM1.items() for one in labels)
    for target, ports in KUBEFLOW.values():
        for port in ports:
            assert {may_connect(policies, End(one), target, port) for one in labels} == {enabled}
            assert may_connect(policies, driver, target, port)
    assert all(may_connect(policies, End(one), End(address="10.0.0.1"), 6443) for one in labels), "the launcher's ConfigMap"
    assert not may_connect(policies, End(labels[0]), End({"app": "mysql"}, namespace="kubeflow"), 3306)


def test_a_training_waits_in_the_queue_with_the_priority_of_the_profile(helm: Helm) -> None:
    quota = {"train-h100": {"cpu": 320, "memory": "3200Gi", "nvidia.com/gpu": {"nominalQuota": 16, "borrowingLimit": 8}}}
    queue = {"clusterQueue": "research", "cohort": "company", "quota": quota, "priorities": {"mm1-high": 1000}}
    objects = helm.objects(VALUES | {"queue": queue})
    launcher = launchers(objects)[0]
    job = TrainJob(config=registry.get("mm1_tiny"), data="d", store="s3://b/p", key="k", folder="")
    body = manifest(Gang(run="r", task="t", key="k", attempt=0), job, Layout(nodes=2), launcher)
    labels = body["metadata"]["labels"]
    local = named(objects, "LocalQueue", labels[QUEUE_LABEL])
    assert named(objects, "WorkloadPriorityClass", labels[PRIORITY_LABEL])["value"] == 1000
    whole = named(objects, "ClusterQueue", local["spec"]["clusterQueue"])["spec"]
    assert whole["cohortName"] == "company"
    assert whole["namespaceSelector"] == {"matchLabels": {"kubernetes.io/metadata.name": "there"}}
    [group] = whole["resourceGroups"]
    [flavor] = group["flavors"]
    pod = body["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    requested = pod["containers"][0]["resources"]["requests"]
    assert set(requested) == set(group["coveredResources"]), "Kueue admits no pod with a resource that is not covered"
    made = named(objects, "ResourceFlavor", flavor["name"])["spec"]
    assert made["nodeLabels"] == pod["nodeSelector"]
    [taint], [toleration] = made["nodeTaints"], pod["tolerations"]
    assert all(taint[name] == toleration[name] for name in ("key", "value", "effect"))
    amounts = {item["name"]: item for item in flavor["resources"]}
    assert amounts["nvidia.com/gpu"] == {"name": "nvidia.com/gpu", "nominalQuota": "16", "borrowingLimit": "8"}
    assert json.dumps(amounts["cpu"]["nominalQuota"]) == '"320"'
