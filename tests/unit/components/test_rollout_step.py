"""The step rollout without a cluster: what is recorded, what is refused, and the questions of a Deployment manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mm1.errors import ConfigurationError, Outcome
from mm1.lineage import serving
from mm1.manifests import Deployment, ReportPage, load, publish, split_uri
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1_components.rollout import STEP, questions_of
from mm1_components.serving.record import StoreLog, before
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.checks import run_checks
from mm1_components.wrapper.declaration import Context
from mm1_components.wrapper.execute import execute
from tests.support.tiny_mm1 import picture


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def model(store: Store, reason: str, deployed: bool = True) -> str:
    return publish(store, Deployment(deployed=deployed, reason=reason))


def rollout(store: Store, tmp_path: Path, run: str = "weekly", **inputs: str) -> tuple[Outcome, dict[str, str]]:
    names = ("promoted", "reason")
    for name in names:
        (tmp_path / name).unlink(missing_ok=True)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in inputs.items()]
    options += [f"--out.{name}={tmp_path / name}" for name in names]
    outcome = execute(STEP, build_parser(STEP).parse_args([*options, f"--store={store.uri}", f"--run={run}"]))
    return outcome, {name: (tmp_path / name).read_text() for name in names if (tmp_path / name).is_file()}


def log_of(store: Store) -> list[tuple[str, str, str]]:
    """Action, deployment and the one before, by their reasons."""

    def name(digest: str) -> str:
        return load(f"{store.uri}/manifests/{digest}.json", Deployment).reason if digest else ""

    return [(each.action, name(each.deployment), name(each.before)) for each in serving.history(store, "mm1")]


def test_on_one_machine_a_promotion_is_recorded_once(store, tmp_path):
    first, second = model(store, "first"), model(store, "second")
    for address in (first, second, second):
        outcome, outputs = rollout(store, tmp_path, deployment=address)
        assert outcome is Outcome.DONE
        assert outputs == {"promoted": "true", "reason": "recorded only: no deployment_name is set"}
    assert log_of(store) == [("promoted", "first", ""), ("promoted", "second", "first")]
    assert serving.current(store, "mm1").by == "run weekly"


@pytest.mark.parametrize(
    ("inputs", "deployed", "said"),
    [
        ({"decision": "fail"}, True, "the gate's decision is fail"),
        ({"decision": "fail"}, False, "worse"),
        ({}, False, "worse"),
    ],
)
def test_a_refused_model_is_recorded_and_nothing_else_happens(store, tmp_path, inputs, deployed, said):
    served, refused = model(store, "served"), model(store, "worse", deployed)
    rollout(store, tmp_path, deployment=served)
    for _ in range(2):
        assert rollout(store, tmp_path, "next", deployment=refused, deployment_name="mm1-serve", **inputs)[1] == {
            "promoted": "false",
            "reason": said,
        }
    assert log_of(store) == [("promoted", "served", ""), ("refused", "worse", "served")]


def test_a_rollback_goes_to_the_model_before_or_to_the_given_one(store, tmp_path, caplog):
    addresses = [model(store, name) for name in ("a", "b", "c")]
    assert rollout(store, tmp_path, action="rollback")[0] is Outcome.CONFIGURATION
    assert "no model was promoted before the current one" in caplog.text
    for address in addresses:
        rollout(store, tmp_path, deployment=address)
    for _ in range(2):
        assert rollout(store, tmp_path, "back", action="rollback")[1]["promoted"] == "true"
    assert log_of(store)[3:] == [("rolled back", "b", "c")], "the second attempt of a run is the same rollback"
    rollout(store, tmp_path, "again", action="rollback")
    assert log_of(store)[4:] == [("rolled back", "a", "b")]
    rollout(store, tmp_path, "forward", action="rollback", deployment=addresses[2])
    assert log_of(store)[5:] == [("rolled back", "c", "a")]


def test_without_a_target_nothing_happens(store, tmp_path):
    assert rollout(store, tmp_path, deployment=model(store, "a"), target="")[1] == {
        "promoted": "false",
        "reason": "no serving target is set",
    }
    assert serving.targets(store) == []


def test_other_manifests_and_other_stores_are_refused(store, tmp_path, caplog):
    page = publish(store, ReportPage(title="r", page=store.put_bytes(b"page")))
    assert rollout(store, tmp_path, deployment=page)[0] is Outcome.CONFIGURATION
    assert "expected a Deployment, the output of deploy, got ReportPage" in caplog.text
    elsewhere = model(open_store(str(tmp_path / "elsewhere")), "a")
    assert rollout(store, tmp_path, deployment=elsewhere)[0] is Outcome.CONFIGURATION
    assert "whose record names it: use its own store" in caplog.text


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"deployment": "", "action": "promote"}, "deployment: required, unless action=rollback"),
        ({"target": "Mm1"}, "target: expected lower-case letters"),
    ],
)
def test_wrong_inputs_are_refused_before_a_run(values: dict[str, Any], said: str):
    with pytest.raises(ConfigurationError, match=said):
        run_checks(STEP, values)
    run_checks(STEP, {"deployment": "", "action": "rollback", "target": ""})


def test_the_own_question_comes_first_and_only_its_answer_is_known(store, tmp_path):
    images = {f"{number}.png": store.put_bytes(picture(number)) for number in (1, 2)}
    sample = {"question": "what ?", "answer": "red", "expected": "it is red", "image": images["2.png"].sha256, "max_tokens": 7}
    deployment = Deployment(deployed=True, reason="", sample=sample, images=images)
    context = Context(store=store, run="r", task="t", key="k", code="", work=tmp_path, artifacts={})
    first, second = questions_of(deployment, context, compare_answers=True)
    assert (first.text, first.answers, first.max_tokens) == ("what ?", ("red", "it is red"), 7)
    assert first.image.startswith("data:image/png;base64,") and first.image != second.image
    assert (second.text, second.answers) == ("what ?", ())
    assert all(not question.answers for question in questions_of(deployment, context, compare_answers=False))
    [alone] = questions_of(Deployment(deployed=True, reason=""), context, compare_answers=True)
    assert alone.image == "" and alone.answers == ()


def test_a_record_that_was_interrupted_is_completed(store):
    log = StoreLog(store, "mm1", by="run weekly")
    address = model(store, "a")
    log.add("promoted", address, "", "passed", {})
    [entry] = serving.history(store, "mm1")
    store.delete("serving/mm1/current.json")
    log.add("promoted", address, "", "passed", {})
    assert log.current() == address and serving.history(store, "mm1")[0] == entry
    log.add("promoted", address, "", "passed", {})
    assert len(serving.history(store, "mm1")) == 2, "not a third time"
    with pytest.raises(ConfigurationError, match="mm1 rollout history"):
        before(store, "mm1", "user me")
    assert split_uri(log.current())[1] == entry.deployment
