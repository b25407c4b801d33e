"""Step decide after a retraining: one that was interrupted is continued, within a budget; a damaged state is named."""

import json
import os
import time
from datetime import UTC, datetime, timedelta

import pytest

from mm1.errors import Outcome
from mm1.lineage.records import record_key
from tests.support.retraining import OLD, Site


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def data(site) -> str:
    """Data that run r1 was to train on; its decision is made."""
    data = site.arrive(2, OLD)
    assert site.decide(data, "r1") == "retrain"
    site.task("r1", "data_mix")
    return data


@pytest.mark.parametrize("outcome", [Outcome.BUDGET, Outcome.PREEMPTED, Outcome.NETWORK])
def test_an_interrupted_retraining_is_continued_on_its_own_data(site, data, outcome):
    first = site.outputs
    site.task("r1", "pretrain", outcome)
    grown = site.arrive(3, datetime.now(UTC))
    site.serve(site.mix(grown, OLD), OLD)  # what is served meanwhile does not change where it started from
    assert site.decide(grown, "r2", min_samples=100_000) == "retrain"
    assert (site.outputs["data"], site.outputs["as_of"]) == (data, first["as_of"])
    assert site.outputs["init"] == first["init"] == "" and site.outputs["serving"]
    assert site.outputs["reason"].startswith("continues the retraining of run r1, with its data as of ")
    assert f"pretrain ended with {outcome.label} ({int(outcome)})" in site.outputs["reason"]
    site.task("r2", "pretrain")
    assert site.decide(grown, "r3") == "retrain", "then it is the turn of the new data"
    assert site.outputs["data"] == grown and "600 new samples" in site.outputs["reason"]


@pytest.mark.parametrize("outcome", [Outcome.DIVERGED, Outcome.CONFIGURATION, Outcome.DATA, Outcome.UNHANDLED])
def test_a_retraining_that_failed_otherwise_is_not_continued(site, data, outcome):
    site.task("r1", "pretrain", Outcome.PREEMPTED)
    site.task("r1", "sft", outcome)
    assert site.decide(data, "r2") == "wait" and site.outputs["reason"].startswith("nothing new")


def test_a_finished_retraining_is_over_whatever_its_report_did(site, data):
    site.task("r1", "pretrain")
    site.task("r1", "report", Outcome.NETWORK)
    assert site.decide(data, "r2") == "wait"


def test_a_retraining_that_never_began_is_continued(site, data):
    assert site.decide(data, "r2") == "retrain"
    assert "it was stopped before its training" in site.outputs["reason"]


def test_one_retraining_at_a_time(site, data):
    site.task("r1", "pretrain", outcome=None)
    assert site.decide(data, "r2") == "wait"
    assert "the retraining of run r1 is still running (pretrain)" in site.outputs["reason"]
    long_ago = time.time() - 7200
    os.utime(site.store.root / record_key("r1", "pretrain"), (long_ago, long_ago))
    assert site.decide(data, "r3") == "retrain"
    assert "pretrain was killed" in site.outputs["reason"]


def test_the_same_run_started_again_goes_on(site, data):
    first = site.outputs
    site.task("r1", "pretrain", Outcome.BUDGET)
    assert site.decide(data, "r1") == "retrain"
    assert site.outputs["as_of"] == first["as_of"]


def test_a_decision_survives_the_death_of_its_task(site, data):
    first = site.outputs
    record = site.store.read_json(record_key("r1", "decide"))
    site.store.write_json(record_key("r1", "decide"), {**record, "state": "running", "outputs": {}})
    assert site.decide(data, "r1", min_samples=100_000) == "retrain"
    assert all(site.outputs[name] == first[name] for name in ("reason", "data", "as_of", "init"))


def test_removed_data_are_not_continued(site, data):
    site.task("r1", "pretrain", Outcome.BUDGET)
    grown = site.arrive(1, datetime.now(UTC))
    site.store.delete(f"manifests/{data.rpartition('/')[2]}")
    assert site.decide(grown, "r2") == "retrain" and site.outputs["data"] == grown


# -- the budget -------------------------------------------------------------------------------------------------------


def test_what_is_left_of_the_budget_is_passed_on(site, data):
    assert site.decide(data, "r1", device_hours=10) == "retrain" and site.outputs["device_hours"] == "10"
    site.task("r1", "pretrain", Outcome.BUDGET, facts={"device_hours": 2.5})
    site.task("r1", "sft", seconds=1800.0, facts={"processes": 4})
    site.task("r1", "evaluate", seconds=36_000.0)
    assert site.decide(data, "r2", device_hours=10) == "retrain"
    assert site.outputs["device_hours"] == "5.5", "2.5 as counted by the trainer, half an hour of four processes"
    assert site.state["spent"] == {"r1": 4.5, "r2": 0.0}


def test_a_budget_that_is_used_up_waits_for_the_end_of_the_period(site, data):
    site.task("r1", "pretrain", Outcome.BUDGET, facts={"device_hours": 12.0})
    assert site.decide(data, "r2", device_hours=10) == "wait"
    started = datetime.fromisoformat(site.state["period_started"])
    end = (started + timedelta(days=7)).isoformat(timespec="seconds")
    assert (
        f"the budget of 10 device hours is used up: 12 since {started.isoformat(timespec='seconds')}" in site.outputs["reason"]
    )
    assert f"the period of 7 days ends {end}" in site.outputs["reason"]
    assert "It would train again: continues the retraining of run r1" in site.outputs["reason"]
    assert site.outputs["device_hours"] == "0" and site.state["last"]["run"] == "r1"
    assert site.decide(data, "r3") == "retrain", "without a budget"


def test_a_new_period_has_the_whole_budget(site, data):
    site.task("r1", "pretrain", Outcome.BUDGET, facts={"device_hours": 12.0})
    state = site.state | {"period_started": (datetime.now(UTC) - timedelta(days=8)).isoformat()}
    site.store.write_json("retraining/mm1.json", state)
    assert site.decide(data, "r2", device_hours=10) == "retrain"
    assert site.outputs["device_hours"] == "10" and site.state["spent"] == {"r2": 0.0}


def test_hours_of_a_run_whose_records_are_gone_still_count(site, data):
    site.task("r1", "pretrain", Outcome.BUDGET, facts={"device_hours": 3.0})
    assert site.decide(data, "r2", device_hours=10) == "retrain"
    site.task("r2", "pretrain", facts={"device_hours": 1.0})
    for key in list(site.store.list("runs/r1/")):
        site.store.delete(key)
    site.decide(data, "r3", device_hours=10)
    assert site.outputs["device_hours"] == "6"


def test_a_task_that_was_killed_counts_until_its_last_sign_of_life(site, data):
    now = datetime.now(UTC)
    times = {"started": (now - timedelta(hours=3)).isoformat(), "alive": (now - timedelta(hours=1)).isoformat()}
    site.task("r1", "pretrain", outcome=None, inputs={"nodes": 2, "processes": 4}, **times)
    long_ago = time.time() - 7200
    os.utime(site.store.root / record_key("r1", "pretrain"), (long_ago, long_ago))
    assert site.decide(data, "r2", device_hours=20) == "retrain"
    assert site.outputs["device_hours"] == "4"


def test_a_result_from_the_cache_costs_nothing(site, data):
    site.task("r1", "pretrain", cache_hit=True, facts={"device_hours": 3.0})
    site.task("r1", "sft", Outcome.PREEMPTED, facts={"device_hours": 1.0})
    site.decide(data, "r2", device_hours=10)
    assert site.outputs["device_hours"] == "9"


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"last": {"run": 1}}', b'{"spent": {"r1": -1}}', b"\xff"])
def test_a_damaged_state_is_named_with_its_remedy(site, data, caplog, content):
    site.store.write("retraining/mm1.json", content)
    site.decide(data, "r2")
    assert site.outcome is Outcome.DATA
    assert "retraining/mm1.json is damaged" in caplog.text and "or delete it" in caplog.text


def test_a_damaged_record_of_the_last_run_is_named(site, data, caplog):
    site.store.write("runs/r1/pretrain.json", b"{")
    site.decide(data, "r2")
    assert site.outcome is Outcome.DATA and "runs/r1/pretrain.json" in caplog.text


def test_a_later_version_may_add_to_the_state(site, data):
    site.task("r1", "pretrain")
    state = site.state
    site.store.write("retraining/mm1.json", json.dumps({**state, "new": 1, "last": {**state["last"], "more": 2}}).encode())
    assert site.decide(data, "r2") == "wait"
