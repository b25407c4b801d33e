"""Each complete image does one step in a pod of a namespace that enforces Pod Security `restricted`.

Needs a cluster: KUBECONFIG with MM1_CLUSTER_NAMESPACE and images that it can pull (REGISTRY=), or MM1_CLUSTER_UP, a command
that starts one and can load local images. Without either the tests are skipped.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import subprocess
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.images.box import Work, find_engine, make_work
from tests.support.cluster import Cluster, start

SECURITY = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
MEMORY = {"cpu": "1Gi", "trainer": "3Gi"}


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A namespace that enforces `restricted`."""
    if not os.environ.get("KUBECONFIG") and not os.environ.get("MM1_CLUSTER_UP"):
        pytest.skip("no cluster: set KUBECONFIG and MM1_CLUSTER_NAMESPACE, or MM1_CLUSTER_UP to a command that starts one")
    environment, tool = start(), shlex.split(os.environ.get("MM1_CLUSTER_UP", ""))
    namespace = os.environ.get("MM1_CLUSTER_NAMESPACE") or f"mm1-images-{uuid.uuid4().hex[:6]}"
    made = Cluster(namespace, environment, tool)
    if tool:
        made.run(*tool, "namespace", namespace, "--level", "restricted")
    yield made
    if tool and not os.environ.get("MM1_CLUSTER_NAMESPACE"):
        made.run("kubectl", "delete", "namespace", namespace, "--wait=false")


@pytest.fixture(scope="session")
def work(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Work]:
    """The small store as a ConfigMap."""
    made = make_work(tmp_path_factory.mktemp("work"))
    packed = base64.b64encode((made.folder / "store.tar").read_bytes()).decode()
    cluster.apply(cluster.object("v1", "ConfigMap", "small-store", binaryData={"store.tar": packed}))
    yield made
    cluster.kubectl("delete", "configmap", "small-store", check=False)


def loaded(cluster: Cluster, image: str) -> str:
    """The image as the cluster finds it: a local one is loaded by its tag, any other is pulled by its digest."""
    if not image.startswith("localhost/"):
        return image
    engine = find_engine()
    if not cluster.tool or not engine:
        pytest.skip(f"{image} is local: push it (make test-images REGISTRY=...), or set MM1_CLUSTER_UP to load it")
    facts = subprocess.run([engine, "image", "inspect", image], capture_output=True, text=True, check=True).stdout
    (tag, *_) = json.loads(facts)[0]["RepoTags"]
    cluster.run(*cluster.tool, "load-image", tag, timeout=1800)
    return str(tag)


def pod(cluster: Cluster, name: str, image: str, command: str) -> dict[str, Any]:
    resources = {"cpu": "200m", "memory": MEMORY[name]}
    container = {
        "name": "main",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-ec", command],
        "securityContext": SECURITY,
        "resources": {"requests": resources, "limits": {"memory": MEMORY[name]}},
        "volumeMounts": [
            {"name": "data", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    volumes = [
        {"name": "data", "configMap": {"name": "small-store"}},
        {"name": "tmp", "emptyDir": {"sizeLimit": "1Gi"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "64Mi"}},
    ]
    spec = {"restartPolicy": "Never", "automountServiceAccountToken": False, "containers": [container], "volumes": volumes}
    return cluster.object("v1", "Pod", f"image-{name}", spec=spec)


@pytest.mark.parametrize("name", ["cpu", "trainer"])
def test_a_restricted_pod_does_a_step(cluster: Cluster, images: dict[str, str], work: Work, name: str) -> None:
    if name not in images:
        pytest.skip(f"no image {name!r} was built")
    image = loaded(cluster, images[name])
    cluster.apply(pod(cluster, name, image, work.steps[name]))
    try:
        ended = ("Succeeded", "Failed")
        cluster.wait(f"pod image-{name}", lambda: cluster.get("pod", f"image-{name}")["status"]["phase"] in ended, 600)
        log = cluster.kubectl("logs", f"image-{name}")
        assert cluster.get("pod", f"image-{name}")["status"]["phase"] == "Succeeded", log[-3000:]
        assert re.search(r"file:///tmp/store/manifests/[0-9a-f]{64}\.json$", log.strip())
    finally:
        cluster.kubectl("delete", "pod", f"image-{name}", "--wait=false", check=False)
