"""The chart serves a model from the store: started and readied by a question about an image, kept through a bad upgrade."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mm1.errors import Outcome
from mm1.manifests import Deployment, ExportedModel, publish, split_uri
from mm1.modeling.export import export
from mm1.serve.probe import ask
from mm1.store.open import open_store
from mm1_workflows.authoring import profiles
from tests.support.cluster import Cluster
from tests.support.helm import Helm, installed, second_namespace, small_chart_at
from tests.support.tiny_mm1 import picture, tiny_mm1

QUESTION = "what colour is the ring ?"
SERVING = "app.kubernetes.io/component=serving"


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Cluster]:
    with second_namespace(cluster, "serving") as there:
        yield there


@pytest.fixture(scope="module")
def model(place: Cluster, tmp_path_factory) -> str:
    """Address of a deployment of a tiny random model in the cluster's store."""
    folder = tmp_path_factory.mktemp("model")
    store = open_store(place.store)
    exported = ExportedModel(checkpoint="0" * 64, files=store.put_folder(export(*tiny_mm1(), folder / "model")), contract={})
    (folder / "ring.png").write_bytes(picture(3))
    image = store.put_file(folder / "ring.png")
    deployment = Deployment(
        deployed=True,
        reason="for a test",
        exported=split_uri(publish(store, exported))[1],
        sample={"question": QUESTION, "answer": "red", "image": image.sha256},
        images={"ring.png": image},
    )
    return publish(store, deployment)


def values(place: Cluster, model: str) -> dict[str, Any]:
    profile = profiles.read(place.profile)
    amounts = {"cpu": "500m", "memory": "2Gi", "ephemeral-storage": "1Gi"}
    return {
        "profile": "small",
        "serving": {
            "enabled": True,
            "model": model,
            "requireSignature": False,
            "image": profile.images["trainer"],
            "resources": {"requests": amounts | {"cpu": "100m"}, "limits": amounts | {"cpu": "2"}},
            "scratch": "1Gi",
            "environment": profile.environment,
            "volumes": [{"claim": volume.claim, "mountPath": volume.mount_path} for volume in profile.volumes],
        },
    }


@pytest.fixture(scope="module")
def helm(place, tmp_path_factory) -> Helm:
    return Helm("helm", small_chart_at(tmp_path_factory.mktemp("chart") / "mm1"), place.environment)


@pytest.fixture(scope="module")
def served(place, helm, model) -> Iterator[None]:
    """The model is served, and ready."""
    with installed(place, helm, values(place, model)):
        place.kubectl("rollout", "status", "deployment/mm1-serve", "--timeout=400s", timeout=420)
        yield


@contextmanager
def forwarded(place: Cluster) -> Iterator[str]:
    """The service on a port of this machine."""
    command = ["kubectl", "--namespace", place.namespace, "port-forward", "service/mm1-serve", ":80"]
    process = subprocess.Popen(command, env=place.environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        port = re.search(r"127\.0\.0\.1:(\d+)", line)
        assert port, f"port-forward said {line!r}"
        yield f"http://127.0.0.1:{port[1]}"
    finally:
        process.terminate()
        process.wait()


def test_it_answers_the_deployments_own_question(place, served):
    with forwarded(place) as address:
        question, answer, _ = ask(address, max_tokens=8, timeout_s=60)
    assert question == QUESTION and answer
    [pod] = place.items("pods", SERVING)
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0
    assert not [volume for volume in pod["spec"]["volumes"] if "projected" in volume], "a token is mounted"


def test_helm_test_asks_it_through_the_service_with_its_key_and_leaves_no_pod(place, helm, served, model):
    asked = helm.run("test", "mm1", "--namespace", place.namespace)
    assert re.search(r"Phase: +Succeeded", asked) and not place.get("pod", "mm1-serve-test")
    place.kubectl("create", "secret", "generic", "mm1-api-key", "--from-literal=api-key=0123456789abcdef")
    guarded = values(place, model)
    guarded["serving"]["apiKey"] = {"secret": "mm1-api-key"}
    helm.install("mm1", place.namespace, guarded)
    place.kubectl("rollout", "status", "deployment/mm1-serve", "--timeout=300s", timeout=320)
    asked = helm.run("test", "mm1", "--namespace", place.namespace)
    assert re.search(r"Phase: +Succeeded", asked) and not place.get("pod", "mm1-serve-test")
    helm.run("rollback", "mm1", "1", "--namespace", place.namespace)
    place.kubectl("rollout", "status", "deployment/mm1-serve", "--timeout=300s", timeout=320)
    place.kubectl("delete", "secret", "mm1-api-key")


def test_a_model_that_is_not_there_never_replaces_the_one_that_is_served(place, helm, served, model):
    missing = model.replace(split_uri(model)[1], "0" * 64)
    helm.install("mm1", place.namespace, values(place, missing))

    def gave_up() -> bool:
        states = [status for pod in place.items("pods", SERVING) for status in pod["status"].get("containerStatuses", [])]
        ended = [
            status[when]["terminated"]["exitCode"]
            for status in states
            for when in ("state", "lastState")
            if "terminated" in status[when]
        ]
        return Outcome.DATA in ended

    place.wait("the new pod to end with the class of missing data", gave_up, 180)
    with forwarded(place) as address:
        assert ask(address, max_tokens=8, timeout_s=60)[0] == QUESTION
    helm.run("rollback", "mm1", "--namespace", place.namespace)
    place.kubectl("rollout", "status", "deployment/mm1-serve", "--timeout=300s", timeout=320)
