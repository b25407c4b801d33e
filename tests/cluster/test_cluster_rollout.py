"""Rollouts on a real cluster: a better model replaces the old one while a client asks, a bad one is taken back.

The chart is installed with the workflow template `mm1-rollout` of the tests' profile; `mm1 rollout` submits it. The client runs
in a pod and asks twice a second behind the Service, as a user of the cluster does.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mm1.errors import Outcome
from mm1.generation.engine import Engine
from mm1.generation.generator import Generator
from mm1.lineage import serving
from mm1.manifests import Deployment, ExportedModel, publish, split_uri
from mm1.modeling.export import export
from mm1.serve.app import create_app
from mm1.serve.config import ServeSettings
from mm1.serve.server import running
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1_components.serving.asking import HttpAsker
from mm1_components.serving.state import Pod, Question
from mm1_workflows.authoring import profiles
from tests.support.cluster import Cluster
from tests.support.helm import Helm, installed, second_namespace, small_chart_at
from tests.support.serving_client import client_pod
from tests.support.tiny_mm1 import picture, tiny_mm1

QUESTION = "what colour is the ring ?"
MAX_TOKENS = 4
SERVING = "app.kubernetes.io/component=serving"
CANARY = "mm1.dev/track=canary"
SETTINGS = {"canary_seconds": 10, "questions": 5, "ready_seconds": 300}


@dataclass(frozen=True)
class Models:
    """Addresses of Deployments in the cluster's store."""

    first: str
    second: str
    wrong: str
    """The answer to its own question is not the recorded one."""
    missing: str
    """Its files are not in the store."""


@pytest.fixture(scope="module")
def place(cluster: Cluster) -> Iterator[Cluster]:
    with second_namespace(cluster, "rollout") as there:
        yield there


@pytest.fixture(scope="module")
def store(place: Cluster) -> Store:
    return open_store(place.store)


@pytest.fixture(scope="module")
def models(store: Store, tmp_path_factory) -> Models:
    folder = tmp_path_factory.mktemp("models")
    (folder / "ring.png").write_bytes(picture(3))
    image = store.put_file(folder / "ring.png")

    def deployment(exported: ExportedModel, answer: str, reason: str) -> str:
        sample = {"question": QUESTION, "answer": answer, "image": image.sha256, "max_tokens": MAX_TOKENS}
        digest = split_uri(publish(store, exported))[1]
        return publish(
            store, Deployment(deployed=True, reason=reason, exported=digest, sample=sample, images={"ring.png": image})
        )

    def trained(seed: int) -> tuple[ExportedModel, str]:
        model = tiny_mm1(seed)
        files = store.put_folder(export(*model, folder / f"model-{seed}"))
        return ExportedModel(checkpoint=f"{seed:064x}", files=files, contract={}), answer_of(model, folder / "ring.png")

    (first, answer), (second, other) = trained(1), trained(2)
    nowhere = {name: ref.model_copy(update={"sha256": "f" * 64}) for name, ref in first.files.items()}
    return Models(
        first=deployment(first, answer, "first"),
        second=deployment(second, other, "second"),
        wrong=deployment(second, "an answer that it never gives", "wrong"),
        missing=deployment(first.model_copy(update={"files": nowhere}), answer, "missing"),
    )


def answer_of(model: Any, image: Path) -> str:
    """What a server of this machine answers."""
    from mm1.data.images.header import data_url

    engine = Engine(Generator(*model))
    try:
        with running(create_app(engine, ServeSettings())) as address:
            question = Question(QUESTION, data_url(image.read_bytes()), max_tokens=MAX_TOKENS)
            return HttpAsker().ask(Pod("here", address, True), question)
    finally:
        engine.close()


def values(place: Cluster) -> dict[str, Any]:
    profile = profiles.read(place.profile)
    amounts = {"memory": "2Gi", "ephemeral-storage": "1Gi"}
    return {
        "profile": place.profile,
        "serving": {
            "enabled": True,
            "rollout": {"enabled": True},
            "requireSignature": False,
            "image": profile.images["trainer"],
            "resources": {"requests": amounts | {"cpu": "100m"}, "limits": amounts | {"cpu": "2"}},
            "scratch": "1Gi",
            "environment": profile.environment,
            "volumes": [{"claim": volume.claim, "mountPath": volume.mount_path} for volume in profile.volumes],
            "probe": {"periodSeconds": 5},
        },
    }


@pytest.fixture(scope="module")
def release(place: Cluster, tmp_path_factory) -> Iterator[Helm]:
    """The chart with the workflow templates of the tests' profile, with a server and no model."""
    chart = small_chart_at(tmp_path_factory.mktemp("chart") / "mm1")
    place.mm1("compile", "--engine", "template", "--profile", place.profile, "--to", str(chart / "files" / place.profile))
    helm = Helm("helm", chart, place.environment)
    with installed(place, helm, values(place)):
        yield helm


def rollout(place: Cluster, *words: str, **settings: float) -> str:
    """Run `mm1 rollout`; what it prints."""
    values = {"store": place.store} | SETTINGS | settings
    given = [word for name, value in values.items() for word in ("-p", f"{name}={value}")]
    done = place.mm1("rollout", *words, "-n", place.namespace, *given)
    return done.stdout + done.stderr


def name_of_run(text: str) -> str:
    """The run in what `mm1 rollout` prints."""
    return text.split(" submitted")[0].split()[-1]


def served(place: Cluster) -> str:
    template = place.get("deployment", "mm1-serve")["spec"]["template"]
    return template["metadata"].get("annotations", {}).get("mm1.dev/model", "")


def last_change(store: Store) -> serving.Change:
    return serving.history(store, "mm1")[-1]


def canaries(place: Cluster) -> list[dict[str, Any]]:
    """The canary's Deployment, if it is not being deleted."""
    item = place.get("deployment", "mm1-serve-canary")
    return [item] if item and "deletionTimestamp" not in item["metadata"] else []


def is_ready(items: list[dict[str, Any]]) -> bool:
    return bool(items) and bool(items[0].get("status", {}).get("readyReplicas"))


@contextmanager
def asking(place: Cluster) -> Iterator[Counter[str]]:
    """A client in a pod for the time of the block; afterwards, how often which model answered, and failures."""
    counts: Counter[str] = Counter()
    place.apply(client_pod(place, QUESTION, picture(3)))
    try:
        place.wait("the client's first answer", lambda: " ok " in place.kubectl("logs", "client", check=False), 120)
        yield counts
        counts.update(line.split(" ", 2)[2] for line in place.kubectl("logs", "client").splitlines())
    finally:
        place.kubectl("delete", "pod", "client", "--grace-period=1")


# -- in this order --------------------------------------------------------------------------------------------------


def test_until_the_first_promotion_the_pods_say_that_there_is_no_model(place, release):
    def ended() -> bool:
        states = [status for pod in place.items("pods", SERVING) for status in pod["status"].get("containerStatuses", [])]
        ends = [state[when]["terminated"] for state in states for when in ("state", "lastState") if "terminated" in state[when]]
        return Outcome.CONFIGURATION in [end["exitCode"] for end in ends]

    place.wait("the class of a pod without a model", ended, 120)
    assert "no model yet" in place.mm1("rollout", "status", "-n", place.namespace, "--store", place.store).stdout


def test_the_first_model_is_promoted(place, release, models, store):
    rollout(place, "promote", models.first, "--watch")
    assert served(place) == models.first and last_change(store).action == "promoted"
    place.kubectl("rollout", "status", "deployment/mm1-serve", "--timeout=60s")
    assert not place.get("deployment", "mm1-serve-canary") or not canaries(place)


def test_a_better_model_replaces_the_old_one_without_a_failed_request(place, release, models, store):
    with asking(place) as counts:
        rollout(place, "promote", models.second, "--watch")
        time.sleep(10)
    assert served(place) == models.second
    assert counts["ok " + split_uri(models.first)[1]] and counts["ok " + split_uri(models.second)[1]], counts
    assert not [line for line in counts if not line.startswith("ok ")], counts
    assert sum(counts.values()) > 30, "twice a second"
    change = last_change(store)
    assert change.before == split_uri(models.first)[1] and change.analysis["failed_replies"] == 0


def test_a_model_that_fails_its_question_is_taken_back_within_a_minute(place, release, models, store):
    with asking(place) as counts:
        run = name_of_run(rollout(place, "promote", models.wrong))
        place.wait("the canary to be ready", lambda: is_ready(canaries(place)) or last_change(store).action == "refused", 300)
        started = time.monotonic()
        place.wait("the canary to be deleted", lambda: not canaries(place), 60)
        assert time.monotonic() - started < 60
        assert place.finished(run)["status"]["phase"] == "Succeeded"
    assert served(place) == models.second and last_change(store).action == "refused"
    assert "expected 'an answer that it never gives'" in last_change(store).reason
    assert not [line for line in counts if not line.startswith("ok ")], counts


def test_a_model_that_is_not_in_the_store_is_refused_with_its_class(place, release, models, store):
    rollout(place, "promote", models.missing, "--watch")
    assert served(place) == models.second
    assert f"the server ended ({Outcome.DATA.label})" in last_change(store).reason


def test_a_rollout_that_is_killed_in_the_middle_goes_on(place, release, models, store):
    run = name_of_run(rollout(place, "promote", models.first, canary_seconds=40))
    place.wait("the canary to be ready", lambda: is_ready(canaries(place)), 300)
    pods = place.items("pods", f"workflows.argoproj.io/workflow={run},mm1.dev/step=rollout")
    place.kubectl("delete", "pod", pods[0]["metadata"]["name"], "--grace-period=0", "--force")
    most = 0

    def ended() -> bool:
        nonlocal most
        living = [pod for pod in place.items("pods", CANARY) if "deletionTimestamp" not in pod["metadata"]]
        most = max(most, len(living))
        return place.phase(run) in ("Succeeded", "Failed", "Error")

    place.wait("the end of the rollout", ended, 600)
    assert place.phase(run) == "Succeeded" and most == 1
    assert served(place) == models.first and last_change(store).action == "promoted"
    assert last_change(store).by == f"run {run}" and not canaries(place)


def test_an_upgrade_of_the_chart_keeps_the_promoted_model(place, release, models):
    changed = values(place)
    changed["serving"]["maxWaiting"] = 99
    release.install("mm1", place.namespace, changed)
    place.kubectl("rollout", "status", "deployment/mm1-serve", "--timeout=300s", timeout=320)
    assert served(place) == models.first
    [pod] = [pod for pod in place.items("pods", SERVING) if "deletionTimestamp" not in pod["metadata"]]
    assert "--max-waiting=99" in pod["spec"]["containers"][0]["args"]


def test_a_rollback_needs_no_canary(place, release, models, store):
    with asking(place) as counts:
        started = time.monotonic()
        rollout(place, "rollback", "--watch")
        seconds = time.monotonic() - started
    assert served(place) == models.second and last_change(store).action == "rolled back"
    assert not [line for line in counts if not line.startswith("ok ")], counts
    status = place.mm1("rollout", "status", "-n", place.namespace, "--store", place.store).stdout
    assert split_uri(models.second)[1][:12] in status and "another model" not in status
    print(f"rolled back in {seconds:.0f} s")


def test_the_rollouts_account_has_its_rights_and_no_other(place, release):
    def may(verb: str, resource: str, name: str = "") -> bool:
        what = f"{resource}/{name}" if name else resource
        who = f"--as=system:serviceaccount:{place.namespace}:mm1-rollout"
        return place.kubectl("auth", "can-i", verb, what, who, check=False).strip() == "yes"

    assert may("patch", "deployments.apps", "mm1-serve") and may("delete", "deployments.apps", "mm1-serve-canary")
    assert may("create", "deployments.apps") and may("list", "pods")
    assert not may("patch", "deployments.apps", "other") and not may("delete", "deployments.apps", "other")
    assert not may("get", "secrets") and not may("create", "pods") and not may("create", "workflows.argoproj.io")
    assert not may("patch", "httproutes.gateway.networking.k8s.io", "mm1-serve"), "without serving.gateway"
    history = json.loads(place.mm1("rollout", "history", "-n", place.namespace, "--store", place.store, "--json").stdout)
    assert [change["action"] for change in history[:2]] == ["rolled back", "promoted"]
