"""The step rollout on a Kubernetes API with Deployments, and a real server as every pod: canary, promotion, refusals."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from mm1.errors import ConfigurationError, NetworkError, Outcome
from mm1.generation.engine import Engine
from mm1.generation.generator import Generator
from mm1.lineage import serving
from mm1.manifests import Deployment, publish, split_uri
from mm1.serve import probe
from mm1.serve.app import create_app
from mm1.serve.config import ServeSettings
from mm1.serve.server import running
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1_components.rollout import STEP
from mm1_components.serving.asking import HttpAsker
from mm1_components.serving.objects import ServingNamespace
from mm1_components.serving.state import Journal, Pod, Question
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.execute import execute
from tests.support.kube_api import NAMESPACE, KubeApi, kube_api
from tests.support.serving_controller import Controller, deployment
from tests.support.tiny_mm1 import picture, tiny_mm1

QUESTION = "what colour is the ring ?"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Address of a real server with a tiny random model and an API key."""
    engine = Engine(Generator(*tiny_mm1()))
    with running(create_app(engine, ServeSettings(), api_keys=["secret"])) as address:
        yield address
    engine.close()


@pytest.fixture(scope="module")
def answer(server) -> str:
    """What the model answers."""
    image = probe._grey_square()
    return HttpAsker("secret").ask(Pod("p", server, True), Question(QUESTION, image, max_tokens=4))


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with kube_api() as made:
        yield made


@pytest.fixture
def place(api, server, monkeypatch) -> Controller:
    """Deployments, of which every model is served by the server."""
    controller = Controller(api)
    monkeypatch.setenv("MM1_API_KEY", "secret")
    monkeypatch.setattr(ServingNamespace, "of_this_pod", lambda: ServingNamespace(api.client, NAMESPACE, patience_s=5))
    return controller


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


@pytest.fixture
def model(store, server, answer, place):
    """Make the Deployment manifest of a model that answers, or is expected to answer, something."""

    def make(reason: str = "passed", expected: str = answer) -> str:
        image = store.put_bytes(_grey())
        sample = {"question": QUESTION, "answer": expected, "image": image.sha256, "max_tokens": 4}
        other = store.put_bytes(picture(3))
        images = {"ring.png": image, "other.png": other}
        address = publish(store, Deployment(deployed=True, reason=reason, sample=sample, images=images))
        place.ports[address] = urlsplit(server).port
        return address

    return make


def _grey() -> bytes:
    return base64.b64decode(probe._grey_square().partition(",")[2])


def run(store: Store, tmp_path: Path, address: str, **inputs: Any) -> tuple[Outcome, dict[str, str]]:
    """Run the step as its command line does."""
    given = {"deployment_name": "mm1-serve", "canary_seconds": 0.2, "questions": 2, "ready_seconds": 20} | inputs
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    options += [f"--out.{name}={tmp_path / name}" for name in ("promoted", "reason")]
    options += [f"--artifact.summary.md={tmp_path / 'summary.md'}"]
    arguments = build_parser(STEP).parse_args([f"--deployment={address}", *options, f"--store={store.uri}", "--run=weekly"])
    outcome = execute(STEP, arguments)
    paths = [tmp_path / "promoted", tmp_path / "reason"]
    return outcome, {path.name: path.read_text() for path in paths if path.is_file()}


def served(place: Controller) -> str:
    return (
        place.api.objects["deployments", "mm1-serve"]["spec"]["template"]["metadata"]
        .get("annotations", {})
        .get("mm1.dev/model")
    )


def test_a_model_is_promoted_after_its_canary_answered(place, store, model, tmp_path):
    old, new = model("old"), model("new")
    place.api.put("deployments", deployment(old, replicas=2))
    outcome, outputs = run(store, tmp_path, new)
    assert outcome is Outcome.DONE and outputs["promoted"] == "true", outputs
    assert outputs["reason"].startswith("canary: 2 questions answered, 1 of them with the expected answer; 0 of ")
    assert served(place) == new and place.at_once == 1 and len(place.canaries) == 1
    [event] = place.api.of("events")
    assert (event["reason"], event["type"], event["involvedObject"]["uid"]) == ("Promoted", "Normal", "uid-serve")
    assert event["message"] == outputs["reason"]
    [left] = place.api.of("deployments")
    assert "mm1.dev/rollout" not in left["metadata"]["annotations"]
    change = serving.current(store, "mm1")
    assert (change.action, change.deployment, change.before) == ("promoted", split_uri(new)[1], split_uri(old)[1])
    assert change.by == "run weekly" and change.analysis["questions"] == 2 and change.analysis["replies"] > 0
    assert "# Served" in (tmp_path / "summary.md").read_text()
    assert run(store, tmp_path, new)[1]["reason"] == "it is served already"
    assert len(serving.history(store, "mm1")) == 1


def test_the_first_model_is_promoted_although_the_served_pods_end(place, store, model, tmp_path):
    place.api.put("deployments", deployment())
    outcome, outputs = run(store, tmp_path, model())
    assert outcome is Outcome.DONE and outputs["promoted"] == "true" and served(place)


def test_a_wrong_answer_is_refused_and_may_be_allowed(place, store, model, tmp_path):
    old, new = model("old"), model("new", expected="purple")
    place.api.put("deployments", deployment(old))
    outcome, outputs = run(store, tmp_path, new)
    assert outcome is Outcome.DONE and outputs["promoted"] == "false"
    assert f"to {QUESTION!r}, expected 'purple'" in outputs["reason"]
    assert served(place) == old and len(place.api.of("deployments")) == 1
    assert [change.action for change in serving.history(store, "mm1")] == ["refused"]
    assert run(store, tmp_path, new, compare_answers="false")[1]["promoted"] == "true" and served(place) == new


def test_a_model_whose_server_ends_is_refused_with_its_class(place, store, model, tmp_path):
    old, new = model("old"), model("new")
    place.exit_codes[new] = 81
    place.api.put("deployments", deployment(old))
    outputs = run(store, tmp_path, new)[1]
    assert outputs["reason"] == "canary: pod mm1-serve-canary-2: the server ended (data): exit code 81"
    assert served(place) == old


def test_a_wrong_key_fails_the_canary(place, store, model, tmp_path, monkeypatch):
    place.api.put("deployments", deployment(model("old")))
    monkeypatch.setenv("MM1_API_KEY", "other")
    assert "replied 401" in run(store, tmp_path, model("new"))[1]["reason"]


def test_the_api_may_be_away_for_a_while(place, store, model, tmp_path):
    place.api.put("deployments", deployment(model("old")))
    place.api.faults = [503, 503]
    assert run(store, tmp_path, model("new"))[1]["promoted"] == "true"


def test_a_rollback_sets_the_model_before_at_once(place, store, model, tmp_path):
    first, second = model("first"), model("second")
    place.api.put("deployments", deployment(first))
    run(store, tmp_path, first)
    run(store, tmp_path, second)
    outcome, outputs = run(store, tmp_path, "", action="rollback")
    assert outcome is Outcome.DONE and outputs == {"promoted": "true", "reason": "rollback without a canary"}
    assert served(place) == first and len(place.canaries) == 1
    assert [change.action for change in serving.history(store, "mm1")] == ["promoted", "promoted", "rolled back"]
    assert run(store, tmp_path, "", action="rollback")[1]["reason"] == "it is served already", "the same run again"


def test_a_rollback_of_a_promotion_that_was_killed_goes_to_the_recorded_model(place, store, model, tmp_path):
    first, second, third = model("first"), model("second"), model("third")
    place.api.put("deployments", deployment(first))
    run(store, tmp_path, first)
    run(store, tmp_path, second)
    journal = Journal(by="run other", model=third, before=second, phase="promoting")
    place.api.put("deployments", deployment(third, **{"mm1.dev/rollout": journal.model_dump_json()}))
    outputs = run(store, tmp_path, "", action="rollback")[1]
    assert outputs["promoted"] == "true" and served(place) == second
    change = serving.history(store, "mm1")[-1]
    assert (change.action, change.before) == ("rolled back", split_uri(third)[1])


@pytest.mark.parametrize(
    ("live", "said"),
    [
        (None, "has no Deployment 'mm1-serve': set serving.enabled=true"),
        ({"env": []}, "set serving.rollout.enabled=true and an empty serving.model"),
    ],
)
def test_a_deployment_that_no_rollout_can_change_is_named(place, store, model, tmp_path, caplog, live, said):
    if live is not None:
        body = deployment(model("old"))
        body["spec"]["template"]["spec"]["containers"][0] |= live
        place.api.put("deployments", body)
    assert run(store, tmp_path, model("new"))[0] is Outcome.CONFIGURATION and said in caplog.text
    assert serving.history(store, "mm1") == []


def test_a_missing_permission_names_the_role(place, store, model, tmp_path, caplog):
    place.api.put("deployments", deployment(model("old")))
    place.api.refuse = {"POST deployments"}
    assert run(store, tmp_path, model("new"))[0] is Outcome.CONFIGURATION
    assert "creating the canary: rejected by the cluster (403): you may not; grant" in caplog.text
    assert "the role mm1-rollout of the chart" in caplog.text


def test_outside_a_cluster_a_deployment_name_is_refused(store, model, tmp_path, caplog, monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    assert run(store, tmp_path, model())[0] is Outcome.CONFIGURATION
    assert "deployment_name requires a pod of a cluster" in caplog.text and "leave it empty to record" in caplog.text


def test_a_server_is_asked_with_the_key_and_its_replies_are_counted(server, answer):
    target = Pod("p", server, True)
    asker = HttpAsker("secret")
    before = asker.replies(target)
    assert asker.ask(target, Question(QUESTION, "", max_tokens=2)) is not None
    after = asker.replies(target)
    assert after.total >= before.total + 1 and after.failed == before.failed == 0
    assert asker.replies(target).total == after.total, "its own requests for metrics do not count"
    with pytest.raises(ConfigurationError, match="replied 401"):
        HttpAsker().ask(target, Question(QUESTION, ""))
    with pytest.raises(NetworkError, match="pod p has no address"):
        asker.replies(Pod("p", "", False))
