"""The step rollout with serving_target=kserve: an InferenceService, its canary and its ConfigMap, on a Kubernetes API."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kubernetes.config import kube_config

from mm1.errors import ConfigurationError
from mm1_components.serving.inference_services import InferenceServiceCluster, canary_of
from mm1_components.serving.objects import ServingNamespace
from mm1_components.serving.rollout import Result, Rollout
from mm1_components.serving.state import Journal, Pod, Question, Replies, Settings
from mm1_workflows import cli
from tests.support.kserve_controller import KServeController, inference_service
from tests.support.kube_api import NAMESPACE, KubeApi, kube_api

PORTS = {"s3://b/old": 1001, "s3://b/new": 1002}
OLD, NEW = PORTS
GOLDEN = Path(__file__).parents[2] / "golden" / "serving" / "inference-service.json"


class Killed(BaseException):
    """The process ends: no code of its own runs any more."""


class Clock:
    """A clock that does not wait."""

    time = 0.0

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


class Asker:
    """Servers by their ports: what they answer, and how many of their replies failed."""

    def __init__(self) -> None:
        self.answers = dict.fromkeys(PORTS.values(), "red")
        self.failed = 0
        self.asked: list[str] = []

    def ask(self, pod: Pod, question: Question) -> str:
        self.asked.append(pod.name)
        return self.answers[urlsplit(pod.url).port or 0]

    def replies(self, pod: Pod) -> Replies:
        return Replies(100, self.failed)


class Record:
    """The log of the target."""

    def __init__(self) -> None:
        self.promoted = OLD
        self.changes: list[tuple[str, str, str]] = []

    def current(self) -> str:
        return self.promoted

    def add(self, action: str, model: str, before: str, reason: str, analysis: Mapping[str, Any]) -> None:
        self.changes += [(action, model, before)] if self.changes[-1:] != [(action, model, before)] else []
        self.promoted = self.promoted if action == "refused" else model


class World:
    """A cluster with KServe, and one rollout of a new model after another."""

    def __init__(self, api: KubeApi) -> None:
        self.api, self.controller = api, KServeController(api)
        self.controller.ports |= PORTS
        self.asker, self.record = Asker(), Record()
        self.cluster = InferenceServiceCluster(ServingNamespace(api.client, NAMESPACE, patience_s=1), "mm1-serve")

    def run(self, model: str = NEW, by: str = "run weekly", direction: Any = "promote") -> Result:
        settings = Settings(canary_seconds=4, questions=2, ready_seconds=20)
        questions = [Question("which colour?", "", ("red",))]
        rollout = Rollout(
            self.cluster,
            self.asker,
            self.record,
            questions,
            model=model,
            by=by,
            settings=settings,
            clock=Clock(),
            direction=direction,
        )
        return rollout.run()

    def served(self) -> str:
        return str(self.controller.service["spec"]["predictor"].get("annotations", {}).get("mm1.dev/model", ""))

    def is_clean(self) -> bool:
        return "canary" not in self.controller.service["spec"] and self.controller.journal == {}


@pytest.fixture
def world() -> Iterator[World]:
    with kube_api() as api:
        yield World(api)


def test_a_model_is_promoted_after_its_canary_answered_with_a_share_of_the_requests(world):
    world.controller.serve(OLD, replicas=2)
    assert world.run().promoted
    assert world.served() == NEW and world.is_clean()
    assert world.record.changes == [("promoted", NEW, OLD)]
    assert world.asker.asked[:2] == ["mm1-serve-canary-predictor-3"] * 2 and len(set(world.asker.asked)) == 3
    assert world.controller.weights == [0, 10, 0] and world.controller.at_once == 1
    models = [each["annotations"]["mm1.dev/model"] for each in world.controller.templates]
    assert models == [OLD, NEW], "the journal is nowhere in the pods, whose replacement it would cause"
    assert world.run().reason == "it is served already"


def test_the_first_model_is_promoted_although_the_served_pods_end(world):
    world.controller.serve()
    world.record.promoted = ""
    assert world.run().promoted and world.served() == NEW and world.record.changes == [("promoted", NEW, "")]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda world: world.asker.answers.update({1002: "blue"}), "answered 'blue' to 'which colour?', expected 'red'"),
        (lambda world: setattr(world.asker, "failed", 2), "failed 2 of 100 requests (2.0%), more than 1.0%"),
        (lambda world: world.controller.exit_codes.update({NEW: 81}), "the server ended (data): exit code 81"),
    ],
)
def test_a_canary_that_fails_is_refused_and_removed(world, change, said):
    world.controller.serve(OLD)
    change(world)
    result = world.run()
    assert not result.promoted and said in result.reason
    assert world.served() == OLD and world.is_clean() and world.record.changes == [("refused", NEW, OLD)]


def test_a_promotion_that_fails_goes_back(world):
    world.controller.serve(OLD)
    reconcile = world.controller.reconcile

    def blue_when_served() -> None:
        reconcile()
        world.asker.answers[1002] = "blue" if world.served() == NEW else "red"

    world.controller.reconcile = blue_when_served
    assert "after the promotion: pod mm1-serve-predictor-3 answered 'blue'" in world.run().reason
    assert world.served() == OLD and world.is_clean() and world.record.changes == [("rolled back", OLD, NEW)]


def test_a_rollback_has_no_canary(world):
    world.controller.serve(NEW)
    world.record.promoted = NEW
    assert world.run(OLD, direction="rollback").promoted
    assert world.served() == OLD and world.controller.canaries == [] and world.record.changes == [("rolled back", OLD, NEW)]


@pytest.mark.parametrize("answer", ["red", "blue"])
def test_a_rollout_that_is_killed_at_any_change_is_finished_by_the_next_attempt(answer):
    """The kills: before each request that changes something, one per world, until a rollout makes fewer changes."""
    number, is_left = 0, True
    while is_left:
        number += 1
        with kube_api() as api:
            world = World(api)
            world.controller.serve(OLD)
            is_left = _kill(world, number, "blue" if answer == "blue" else "red")
            world.run()
            assert (world.served(), world.is_clean()) == ((NEW if answer == "red" else OLD), True), number
            assert [change[0] for change in world.record.changes] == ["promoted" if answer == "red" else "rolled back"], number
            assert world.controller.at_once == 1, number
    assert number >= 6


def _kill(world: World, number: int, when_served: str) -> bool:
    """Run a rollout that is killed before a change, and say whether it made so many."""
    space, changes = world.cluster.namespace, [0]
    send, ask = space.send, world.asker.ask

    def counted(method: str, *arguments: Any, **options: Any) -> Any:
        changes[0] += method == "PATCH"
        if method == "PATCH" and changes[0] == number:
            raise Killed
        return send(method, *arguments, **options)

    def answered(pod: Pod, question: Question) -> str:
        return when_served if "canary" not in pod.name and urlsplit(pod.url).port == 1002 else ask(pod, question)

    space.send, world.asker.ask = counted, answered
    restore, Rollout._restore = Rollout._restore, lambda self: None  # a process that was killed restores nothing
    try:
        world.run()
    except Killed:
        return True
    finally:
        space.send, Rollout._restore = send, restore
    return False


def test_a_canary_that_another_writer_replaced_is_left_alone(world):
    world.controller.serve(OLD)
    world.cluster.start_canary(NEW, "run a", 1)
    first = world.cluster.canary()
    world.cluster.start_canary(OLD, "run b", 1)
    assert world.cluster.canary() == first, "there is one at most"
    world.cluster.remove_canary(first)
    world.cluster.start_canary(NEW, "run a", 1)
    world.cluster.remove_canary(first)
    assert world.cluster.canary().uid != first.uid
    world.controller.service["spec"]["predictor"]["model"]["runtime"] = "other"
    assert not world.cluster.canary().is_current


def test_a_change_of_somebody_else_meanwhile_is_kept(world):
    world.controller.serve(OLD)
    send, once = world.cluster.namespace.send, [True]

    def late(method: str, *arguments: Any, **options: Any) -> Any:
        if method == "PATCH" and once:
            once.clear()
            world.controller.service["metadata"]["resourceVersion"] = "9"
        return send(method, *arguments, **options)

    world.cluster.namespace.send = late
    world.cluster.start_canary(NEW, "run a", 1)
    assert world.cluster.canary().model == NEW and world.controller.service["metadata"]["resourceVersion"] == "10"


@pytest.mark.parametrize(
    ("plural", "said"),
    [
        ("inferenceservices", "has no InferenceService 'mm1-serve', or the cluster has no KServe: set serving.kserve.enabled"),
        ("configmaps", "has no ConfigMap mm1-serve-rollout, where a rollout keeps what it has begun: upgrade the chart"),
    ],
)
def test_an_object_that_the_chart_makes_is_named(world, plural, said):
    world.controller.serve(OLD)
    world.api.missing.add(plural)
    with pytest.raises(ConfigurationError, match=said):
        world.cluster.served()


def test_an_inference_service_of_other_tools_is_refused(world):
    world.controller.serve(OLD)
    world.controller.service["spec"]["predictor"]["model"]["env"] = []
    with pytest.raises(ConfigurationError, match=r"spec.predictor.model.env has no MM1_MODEL.*upgrade it"):
        world.cluster.served()


def test_the_status_shows_an_inference_service_and_its_canary(world, tmp_path, capsys, monkeypatch):
    kubeconfig = str(world.api.kubeconfig(tmp_path / "kubeconfig"))
    monkeypatch.setattr(kube_config, "KUBE_CONFIG_DEFAULT_LOCATION", kubeconfig)
    monkeypatch.setenv("KUBECONFIG", kubeconfig)
    monkeypatch.setenv("COLUMNS", "200")
    world.controller.serve(OLD, replicas=2)
    world.cluster.start_canary(NEW, "run weekly", 1)
    world.cluster.set_journal(Journal(by="run weekly", model=NEW, before=OLD, phase="promoting"))
    assert cli.main(["rollout", "status", "-n", NAMESPACE]) == 0
    said = capsys.readouterr().out
    assert "mm1-serve: s3://b/old, 2 of 2 pods ready" in said
    assert "canary mm1-serve-canary: s3://b/new, 1 of 1 pods ready, by run weekly" in said
    assert "run weekly is promoting s3://b/new" in said


def test_a_journal_of_another_version_is_ignored(world):
    world.controller.serve(OLD)
    world.cluster.set_journal(Journal(by="a", model=NEW, before=OLD, phase="promoting"))
    assert world.cluster.served().journal.by == "a"
    world.api.objects["configmaps", "mm1-serve-rollout"]["data"]["rollout"] = "{}"
    assert world.cluster.served().journal is None


def test_the_object_during_a_rollout_is_the_one_that_was_checked_against_the_schema_of_kserve():
    live = inference_service(OLD, replicas=2)
    live["spec"]["canary"] = [canary_of(live, NEW, "run weekly", 1, uid="0" * 32) | {"trafficPercent": 10}]
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(live, indent=1) + "\n")
    assert live == json.loads(GOLDEN.read_text()), "validate the new one against the definitions of KServe, then update it"
