"""The trial of the chart (an S3 server of its own), and the pod of `helm test`."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from mm1_workflows.engines.yaml import TRIAL
from tests.support.helm import CHART, Helm, named
from tests.support.network import End, may_connect
from tests.unit.charts.conftest import helm_at

MM1 = {"app.kubernetes.io/part-of": "mm1"}
OWN = {"app.kubernetes.io/name": "mm1", "app.kubernetes.io/instance": "mm1"}
STEP = End(MM1 | {"mm1.dev/step": "ingest"})
RANK = End(MM1 | {"mm1.dev/role": "rank"})
MODEL = f"s3://data/store/manifests/{'0' * 64}.json"
SERVED = {"enabled": True, "model": MODEL, "requireSignature": False, "image": "registry.example/trainer:1"}


@pytest.fixture(scope="module")
def trial(small_chart: Path) -> list[dict[str, Any]]:
    """The objects of the README's command."""
    return helm_at("helm", small_chart).objects({"trial": {"enabled": True}})


def test_one_value_brings_store_bucket_credentials_and_the_smoke_templates(trial: list[dict[str, Any]]) -> None:
    secret = named(trial, "Secret", "mm1-store")
    content = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    assert content["S3_ENDPOINT"] == "http://mm1-trial-store.there.svc:7070"
    assert len(content["AWS_ACCESS_KEY_ID"]) == 20 and len(content["AWS_SECRET_ACCESS_KEY"]) == 40
    full = named(trial, "WorkflowTemplate", "mm1-full")
    [store] = [item["value"] for item in full["spec"]["arguments"]["parameters"] if item["name"] == "store"]
    pod = named(trial, "Deployment", "mm1-trial-store")["spec"]["template"]["spec"]
    [container] = pod["containers"]
    environment = {item["name"]: item for item in container["env"]}
    assert store == f"s3://{environment['BUCKET']['value']}/store"
    assert environment["AWS_ACCESS_KEY_ID"]["valueFrom"]["secretKeyRef"]["name"] == "mm1-store"
    repository = yaml.safe_load(named(trial, "ConfigMap", "artifact-repositories")["data"]["mm1"])["s3"]
    assert (repository["bucket"], repository["insecure"]) == (environment["BUCKET"]["value"], True)
    assert f"http://{repository['endpoint']}" == content["S3_ENDPOINT"]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "mm1-trial-store"
    assert named(trial, "PersistentVolumeClaim", "mm1-trial-store")["spec"]["resources"]["requests"]["storage"] == "20Gi"
    assert "@sha256:" in container["image"]


def test_a_small_cluster_has_room_for_the_smoke_profile() -> None:
    """A supervisor, its rank and two light steps at once, beside what a cluster of two cores runs anyway."""
    bodies = [
        body
        for path in (CHART / "files" / TRIAL).glob("*.yaml")
        for body in yaml.safe_load(path.read_text())["spec"]["templates"]
        if "container" in body
    ]
    requests = [body["container"]["resources"]["requests"] for body in bodies]
    assert {body["metadata"]["labels"]["mm1.dev/pool"] for body in bodies} == {"smoke", "smoke-cpu"}
    assert not [request for request in requests if "nvidia.com/gpu" in request]
    assert max(float(request["cpu"]) for request in requests) <= 0.7
    assert not [body for body in bodies if body.get("nodeSelector") or body.get("tolerations")]


@pytest.mark.parametrize(
    ("source", "target", "port", "allowed"),
    [
        (STEP, End(OWN | {"app.kubernetes.io/component": "trial-store"}), 7070, True),
        (RANK, End(OWN | {"app.kubernetes.io/component": "trial-store"}), 7070, True),
        (RANK, End(OWN | {"app.kubernetes.io/component": "trial-store"}), 7071, False),
        (End({}, namespace="argo"), End(OWN | {"app.kubernetes.io/component": "trial-store"}), 7070, True),
        (End({}, namespace="elsewhere"), End(OWN | {"app.kubernetes.io/component": "trial-store"}), 7070, False),
        (End(OWN | {"app.kubernetes.io/component": "trial-store"}), End(address="52.1.2.3"), 443, False),
    ],
)
def test_who_reaches_the_trials_store(trial: list[dict[str, Any]], source: End, target: End, port: int, allowed: bool) -> None:
    assert may_connect([item for item in trial if item["kind"] == "NetworkPolicy"], source, target, port) is allowed


def test_a_site_replaces_server_and_volume(newest: Helm) -> None:
    command = ["sh", "-c", 'exec minio server /data --address ":$PORT"']
    trial = {"enabled": True, "image": "minio:1", "command": command, "volume": {"persistent": False}, "port": 9000}
    repository = {"enabled": True, "bucket": "reports"}
    objects = newest.objects({"trial": trial, "artifactRepository": repository})
    pod = named(objects, "Deployment", "mm1-trial-store")["spec"]["template"]["spec"]
    assert pod["containers"][0]["command"] == command and pod["containers"][0]["image"] == "minio:1"
    assert "emptyDir" in pod["volumes"][0] and not [item for item in objects if item["kind"] == "PersistentVolumeClaim"]
    kept = yaml.safe_load(named(objects, "ConfigMap", "artifact-repositories")["data"]["mm1"])["s3"]
    assert kept["bucket"] == "reports" and kept["endpoint"] == "s3.amazonaws.com", "a repository of the site stays"


def test_the_notes_warn_that_the_data_are_lost(newest: Helm) -> None:
    arguments = ["install", "mm1", str(newest.chart), "--dry-run=client", "--namespace", "there"]
    notes = newest.run(*arguments, values={"trial": {"enabled": True}}).partition("NOTES:")[2]
    assert "`helm uninstall` deletes its volume" in notes and "are lost with it" in notes
    assert "mm1 submit template/mm1-full -n there --watch" in notes and "{{" not in notes


@pytest.mark.parametrize("secret", ["", "mm1-api-key"])
def test_helm_test_asks_the_server_with_its_key(both: Helm, secret: str) -> None:
    serving = SERVED | {"apiKey": {"secret": secret}, "service": {"port": 8080}}
    peers = [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]
    objects = both.objects({"profile": "small", "serving": serving, "networkPolicy": {"serving": {"from": peers}}})
    pod = named(objects, "Pod", "mm1-serve-test")
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    deleted = set(pod["metadata"]["annotations"]["helm.sh/hook-delete-policy"].split(","))
    assert deleted == {"before-hook-creation", "hook-succeeded", "hook-failed"}, "nothing is left"
    [container] = pod["spec"]["containers"]
    assert container["command"] == ["python", "-m", "mm1.serve.probe"] and "--url=http://mm1-serve:8080" in container["args"]
    keys = [item["valueFrom"]["secretKeyRef"] for item in container["env"] if item["name"] == "MM1_API_KEY"]
    assert keys == ([{"name": secret, "key": "api-key"}] if secret else [])
    tester, server = End(pod["metadata"]["labels"]), End(OWN | MM1 | {"app.kubernetes.io/component": "serving"})
    policies = [item for item in objects if item["kind"] == "NetworkPolicy"]
    assert may_connect(policies, tester, server, 8000) and not may_connect(policies, tester, server, 22)
    assert not may_connect(policies, STEP, server, 8000)
