"""Every way through a rollout, on a simulated cluster: what is served, recorded and left, also if it is killed at any point."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace
from typing import Any

import pytest

from mm1.errors import ConfigurationError, NetworkError, Preempted
from mm1_components.serving.rollout import Result, Rollout
from mm1_components.serving.state import Journal, Question, Replies, Settings
from tests.support.serving_world import Killed, Model, World

OLD, NEW, OTHER = (f"file:///store/manifests/{digit * 64}.json" for digit in "abc")
QUESTIONS = (Question("what is red ?", "data:", ("red", "it is red")), Question("what is red ?", "data:other"))
SETTINGS = Settings(canary_seconds=20, questions=4, ready_seconds=60)


def world(new: Model | None = None, served: str = OLD, **options: Any) -> World:
    return World({OLD: Model(), NEW: new or Model(), OTHER: Model()}, served, **options)


def rollout(place: World, model: str = NEW, by: str = "run weekly", **options: Any) -> Result:
    settings = options.pop("settings", SETTINGS)
    return Rollout(place, place, place, QUESTIONS, model=model, by=by, settings=settings, clock=place, **options).run()


def check_clean(place: World) -> None:
    assert place.the_canary is None and place.weight == 0 and place.journal is None
    assert place.least_ready in (0, place.replicas), "the served model lacked a pod at some time"


def test_a_good_model_is_promoted_after_its_canary(caplog):
    place = world()
    result = rollout(place)
    assert result.promoted and place.model == NEW
    check_clean(place)
    assert place.changes == [("promoted", NEW, OLD, result.reason)]
    assert result.reason == "canary: 4 questions answered, 2 of them with the expected answer; 0 of 100 requests failed"
    canary = [name for name, _ in place.asked if name == "pod-3"]
    assert len(canary) == 4 and len(place.asked) == 6, "and each of the two new pods once"
    assert place.analyses[0]["ready_s"] == 10 and place.analyses[0]["replies"] == 100
    assert 30 <= place.time <= 80


def test_requests_go_to_the_canary_by_weight_only_while_it_is_analysed():
    place, weights = world(), []
    place.on_call = lambda _: weights.append(place.weight)
    assert rollout(place, settings=SETTINGS.model_copy(update={"canary_weight": 25})).promoted
    assert [weight for weight, _ in itertools.groupby(weights)] == [0, 25, 0]


BAD = {
    "wrong answer": (Model(answer="blue"), r"pod pod-3 answered 'blue' to 'what is red \?', expected 'red' or 'it is red'"),
    "no answer": (Model(unreachable=True), r"pod pod-3 did not answer 'what is red \?': Connection refused"),
    "crash": (Model(crashes=True), r"pod pod-3: ended with exit code 81 \(data\)"),
    "late crash": (Model(crashes_after_s=5), "pod pod-3: ended with exit code 81"),
    "never ready": (Model(never_ready=True), "not ready within 60 s"),
    "errors": (Model(replies=Replies(100, 2)), r"pod pod-3 failed 2 of 100 requests \(2\.0%\), more than 1\.0%"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_canary_is_deleted_at_the_first_failure_and_changes_nothing(name):
    model, reason = BAD[name]
    place = world(model)
    result = rollout(place)
    assert not result.promoted and place.model == OLD and place.promoted == OLD
    check_clean(place)
    assert place.changes == [("refused", NEW, OLD, result.reason)]
    assert re.search(reason, result.reason), result.reason
    if name != "never ready":
        assert place.time <= 20, "not at the end of the analysis"


@pytest.mark.parametrize("model", [Model(crashes_when_served=True), Model(answer_when_served="blue")])
def test_a_promotion_that_fails_goes_back_to_the_model_before(model):
    place = world(model)
    result = rollout(place)
    assert not result.promoted and result.reason.startswith("after the promotion: pod pod-")
    assert place.model == place.promoted == OLD
    check_clean(place)
    assert place.changes == [("rolled back", OLD, NEW, result.reason)]
    assert place.analyses[0]["questions"] == 4


def test_pods_that_were_restarted_long_ago_do_not_end_the_wait_for_the_model_before():
    place = world(Model(answer_when_served="blue"))
    place.models = {**place.models, OLD: Model(was_restarted=True)}
    result = rollout(place)
    assert not result.promoted and place.model == OLD and "the model before" not in result.reason
    check_clean(place)
    assert place.served().is_complete


def test_the_first_model_is_promoted_with_nothing_to_go_back_to():
    place = world(served="")
    assert rollout(place).promoted and place.changes[0][:3] == ("promoted", NEW, "")
    check_clean(place)
    place = world(Model(answer_when_served="blue"), served="")
    assert not rollout(place).promoted
    assert place.model == "" and place.changes[0][:3] == ("refused", NEW, "")
    check_clean(place)


def test_a_model_that_is_served_and_recorded_is_left_alone():
    place = world(served=NEW)
    assert rollout(place) == Result(True, "it is served already") and place.changes == [] and place.time == 0


def test_a_model_that_is_served_but_not_recorded_is_verified_and_recorded():
    place = world(served=NEW)
    place.promoted = OLD
    result = rollout(place)
    assert result == Result(True, "promote without a canary") and place.changes[0][:3] == ("promoted", NEW, OLD)
    check_clean(place)


def test_a_rollback_needs_no_canary_and_ends_a_rollout_that_is_running():
    place = world()
    place.start_canary(NEW, "run weekly", 1)
    place.set_canary_weight(10)
    result = rollout(place, OTHER, "run back", direction="rollback")
    assert result.promoted and place.changes == [("rolled back", OTHER, OLD, "rollback without a canary")]
    assert place.asked and not [name for name, _ in place.asked if name == "pod-3"]
    check_clean(place)


def test_a_deployment_without_replicas_is_set_without_a_question():
    place = world(replicas=0)
    assert rollout(place, settings=SETTINGS.model_copy(update={"replicas_of_canary": 0})).promoted
    assert place.asked == [] and place.model == NEW


# -- what is left of others -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "by", "outdated"), [(OTHER, "run weekly", False), (NEW, "run other", False), (NEW, "run weekly", True)]
)
def test_a_canary_that_is_left_is_replaced_unless_it_is_this_rollouts_own(model, by, outdated):
    place = world()
    place.start_canary(model, by, 1)
    if outdated:
        place.outdate_canary()
    assert rollout(place).promoted
    assert {name for name, _ in place.asked if name in ("pod-3", "pod-4")} == {"pod-4"}
    check_clean(place)


def test_the_canary_of_an_earlier_attempt_is_adopted():
    place = world()
    place.start_canary(NEW, "run weekly", 1)
    place.sleep(10)
    assert rollout(place).promoted and place.asked[0][0] == "pod-3" and place.analyses[0]["ready_s"] == 0


def test_the_last_rollout_wins_and_the_first_one_touches_nothing_of_it():
    place = world()

    def replace_canary(call: int) -> None:
        if place.time > 15 and place.the_canary and place.the_canary.by == "run weekly":
            place.the_canary = None
            place.running = [pod for pod in place.running if not pod.of_canary]
            place.on_call = lambda _: None
            place.start_canary(OTHER, "run other", 1)

    place.on_call = replace_canary
    result = rollout(place)
    assert result == Result(False, "its canary was replaced by run other")
    assert place.the_canary and place.the_canary.by == "run other" and place.weight > 0 and place.model == OLD
    assert place.changes == [("refused", NEW, OLD, result.reason)]


def test_a_promotion_that_another_rollout_replaces_is_refused_and_changes_nothing_any_more():
    place = world()

    def replace_model(call: int) -> None:
        if place.model == NEW:
            place.model = OTHER

    place.on_call = replace_model
    result = rollout(place)
    assert result == Result(False, "another rollout has set the served model") and place.model == OTHER
    assert place.changes == [("refused", NEW, OLD, result.reason)] and place.the_canary is None


# -- killed, stopped, unreachable -----------------------------------------------------------------------------------

SCENES: dict[str, dict[str, Any]] = {
    "good": {},
    "wrong answer": {"new": Model(answer="blue")},
    "crash": {"new": Model(crashes=True)},
    "fails after the promotion": {"new": Model(crashes_when_served=True)},
    "first": {"served": ""},
    "first fails after the promotion": {"new": Model(answer_when_served="blue"), "served": ""},
    "rollback": {"direction": "rollback"},
}


def scene(name: str) -> tuple[World, dict[str, Any]]:
    options = dict(SCENES[name])
    direction = options.pop("direction", "promote")
    return world(**options), {"direction": direction}


def ending(place: World) -> tuple[Any, ...]:
    return place.model, place.promoted, place.changes[-1][:3], {change[0] for change in place.changes}


def run_with(name: str, points: dict[int, BaseException]) -> World:
    """Run a scene, with errors at some of its calls; after each error it is run again."""
    place, options = scene(name)
    place.at_call = points
    for _ in range(len(points) + 1):
        try:
            rollout(place, **options)
            break
        except (Killed, NetworkError, Preempted, ConfigurationError):
            continue
    return place


def calls_of(name: str) -> int:
    return run_with(name, {}).calls


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("error", [Killed(), NetworkError("away"), Preempted("stopped"), ConfigurationError("forbidden")])
def test_an_attempt_that_ends_at_any_point_is_continued_by_the_next(name, error):
    expected = ending(run_with(name, {}))
    for call in range(1, calls_of(name) + 1):
        place = run_with(name, {call: error})
        assert ending(place) == expected, f"{type(error).__name__} at call {call}"
        assert len(place.changes) == 1, f"recorded twice after call {call}"
        check_clean(place)


@pytest.mark.parametrize("name", SCENES)
def test_several_attempts_are_killed(name):
    expected, calls, draw = ending(run_with(name, {})), calls_of(name), random.Random(7)
    for _ in range(150):
        points = {call: Killed() for call in draw.sample(range(1, 2 * calls), 3)}
        place = run_with(name, points)
        assert ending(place) == expected, sorted(points)
        check_clean(place)


@pytest.mark.parametrize("name", ["good", "fails after the promotion", "first"])
def test_a_rollout_that_is_stopped_and_not_started_again_leaves_what_was_served(name):
    for call in range(1, calls_of(name) + 1):
        place, options = scene(name)
        before = place.model
        place.at_call = {call: Preempted("stopped")}
        with pytest.raises(Preempted):
            rollout(place, **options)
        assert place.model == (NEW if place.promoted == NEW else before), f"call {call}"
        assert place.the_canary is None and place.weight == 0


def test_a_rollback_that_is_stopped_is_not_undone():
    place = world()
    place.on_call = lambda _: place.at_call.update({place.calls + 1: Preempted("stopped")}) if place.model == NEW else None
    with pytest.raises(Preempted):
        rollout(place, direction="rollback")
    assert place.model == NEW and place.journal and place.journal.before == OLD
    place.on_call, place.at_call = (lambda _: None), {}
    assert rollout(place, direction="rollback").promoted and place.changes[0][:3] == ("rolled back", NEW, OLD)
    check_clean(place)


@pytest.mark.parametrize("promoted", [OLD, OTHER])
def test_a_promotion_that_was_killed_and_never_verified_is_not_gone_back_to(promoted):
    place = world(Model(crashes_when_served=True), served=OTHER)
    place.promoted = promoted
    place.journal = Journal(by="run other", model=OTHER, before=OLD, phase="promoting")
    assert not rollout(place).promoted
    assert place.model == promoted and place.changes[0][:3] == ("rolled back", promoted, NEW)
    check_clean(place)


def test_a_canary_that_stays_while_it_is_deleted_ends_the_attempt():
    place = world()
    place.start_canary(OTHER, "run other", 1)
    place.the_canary = replace(place.the_canary, is_ending=True)
    with pytest.raises(NetworkError, match="the canary of run other is still being deleted after 60 s"):
        rollout(place)


def test_an_error_while_it_restores_does_not_hide_the_cause(caplog):
    place = world()
    place.at_call = {10: Preempted("stopped"), 11: NetworkError("away"), 12: NetworkError("away")}
    with pytest.raises(Preempted):
        rollout(place)
    assert "something of the rollout may be left: away" in caplog.text
