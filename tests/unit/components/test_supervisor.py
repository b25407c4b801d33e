"""What the supervisor makes of its JobSets, against a Kubernetes API whose JobSet controller is the test."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mm1.checkpoint.resume import skip_batch
from mm1.errors import (
    BudgetUsedUp,
    ConfigurationError,
    DivergedError,
    HardwareError,
    Mm1Error,
    NetworkError,
    Outcome,
    OutOfMemory,
    Preempted,
)
from mm1_components.ranks.launcher import result_key
from tests.support.gangs import RESULT, RUN, Gangs
from tests.support.kube_api import Object, kube_api


@pytest.fixture
def gangs(tmp_path: Path) -> Iterator[Gangs]:
    """With SIGTERM as a step has it."""

    def stop(number: int, frame: object) -> None:
        raise Preempted("stopped by SIGTERM")

    former = signal.signal(signal.SIGTERM, stop)
    try:
        with kube_api() as api:
            yield Gangs(api, tmp_path)
    finally:
        signal.signal(signal.SIGTERM, former)


def micro_batches(gangs: Gangs) -> list[str]:
    return [jobset["metadata"]["annotations"]["mm1.dev/micro-batch"] for jobset in gangs.made]


def avoided(jobset: Object) -> list[str]:
    spec = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    if "affinity" not in spec:
        return []
    preferred = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    return list(preferred[0]["preference"]["matchExpressions"][0]["values"])


# -- how it ends ------------------------------------------------------------------------------------------------------


def test_the_result_comes_from_the_store_and_the_log_from_node_0(gangs: Gangs) -> None:
    gangs.fates = [gangs.done]
    assert gangs.supervisor().run() == RESULT
    assert gangs.lines == ["step 1\n", "step 2\n"]
    assert gangs.store.read_json(result_key("work")) is None, "taken"
    (jobset,) = gangs.made
    assert jobset["metadata"]["ownerReferences"][0]["uid"] == "w" and gangs.context.facts == {}


def test_a_jobset_that_leaves_no_result_is_retried_by_the_engine(gangs: Gangs) -> None:
    def forgetful(jobset: Object) -> None:
        jobset["status"] = {"terminalState": "Completed"}

    gangs.fates = [forgetful]
    with pytest.raises(NetworkError, match=r"has no launch/work/result\.json"):
        gangs.supervisor().run()


@pytest.mark.parametrize(
    ("outcome", "error"),
    [
        (Outcome.DIVERGED, DivergedError),
        (Outcome.CONFIGURATION, ConfigurationError),
        (Outcome.BUDGET, BudgetUsedUp),
        (Outcome.UNHANDLED, Mm1Error),
    ],
)
def test_the_class_of_the_rank_that_explains_the_others_is_raised(
    gangs: Gangs, outcome: Outcome, error: type[Mm1Error]
) -> None:
    gangs.fates = [gangs.failed(outcome)]
    with pytest.raises(error, match="node 1: why") as caught:
        gangs.supervisor().run()
    assert caught.value.outcome is outcome and len(gangs.made) == 1


def test_a_jobset_that_fails_without_pods_says_what_kubernetes_says(gangs: Gangs) -> None:
    def fate(jobset: Object) -> None:
        conditions = [{"type": "Failed", "status": "True", "message": "jobset failed: DeadlineExceeded"}]
        jobset["status"] = {"terminalState": "Failed", "conditions": conditions}

    gangs.fates = [fate]
    with pytest.raises(NetworkError, match="DeadlineExceeded"):
        gangs.supervisor().run()


def test_a_jobset_that_somebody_deletes_is_a_failure_that_may_pass(gangs: Gangs) -> None:
    gangs.fates = [lambda jobset: gangs.api.objects.clear()]
    with pytest.raises(NetworkError, match="was deleted"):
        gangs.supervisor().run()


# -- launched again ---------------------------------------------------------------------------------------------------


def test_out_of_memory_halves_the_micro_batch_until_it_is_one(gangs: Gangs) -> None:
    gangs.fates = [gangs.failed(Outcome.OUT_OF_MEMORY), gangs.failed(Outcome.OUT_OF_MEMORY), gangs.done]
    assert gangs.supervisor().run() == RESULT
    assert micro_batches(gangs) == ["4", "2", "1"]
    assert [jobset["metadata"]["name"][-2:] for jobset in gangs.made] == ["-0", "-1", "-2"]
    assert [item["metadata"]["name"] for item in gangs.api.of("jobsets")] == [gangs.made[-1]["metadata"]["name"]]
    why = [text.split(": ")[1] for text in gangs.context.facts["relaunched"]]
    assert why == ["out of memory, micro_batch 4 -> 2", "out of memory, micro_batch 2 -> 1"]
    config = json.loads(next(word for word in _arguments(gangs.made[-1]) if word.startswith("--job=")).removeprefix("--job="))
    assert config["config"]["train"]["global_batch"] == 8


def _arguments(jobset: Object) -> list[str]:
    spec = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    return list(spec["containers"][0]["args"])


def test_out_of_memory_with_one_sequence_is_final(gangs: Gangs) -> None:
    gangs.job = gangs.job.with_micro_batch(1)
    gangs.fates = [gangs.failed(Outcome.OUT_OF_MEMORY)]
    with pytest.raises(OutOfMemory):
        gangs.supervisor().run()


def test_a_hardware_fault_is_tried_elsewhere_as_often_as_the_profile_allows(gangs: Gangs) -> None:
    gangs.fates = [gangs.failed(Outcome.HARDWARE)] * 3
    with pytest.raises(HardwareError):
        gangs.supervisor(relaunches=2).run()
    assert [avoided(jobset) for jobset in gangs.made] == [[], ["host-1"], ["host-1", "host-1"]]
    assert len(gangs.context.facts["relaunched"]) == 2


@pytest.mark.parametrize("helps", [True, False])
def test_a_divergence_is_tried_again_if_the_ranks_have_listed_a_batch_to_skip(gangs: Gangs, helps: bool) -> None:
    def diverged(jobset: Object) -> None:
        skip_batch(gangs.store, gangs.job.key, 7)
        gangs.failed(Outcome.DIVERGED, "the loss is nan")(jobset)

    gangs.fates = [diverged, gangs.done if helps else diverged]
    if helps:
        assert gangs.supervisor(relaunches=0).run() == RESULT
    else:
        with pytest.raises(DivergedError, match="the loss is nan"):
            gangs.supervisor().run()
    assert len(gangs.made) == 2
    assert gangs.context.facts["relaunched"] == ["launch 1: diverged: node 1: the loss is nan"]


def test_a_jobset_without_a_step_for_too_long_is_deleted(gangs: Gangs) -> None:
    def stuck(jobset: Object) -> None:
        pod = gangs.pod(jobset)
        line = json.dumps({"mm1": "progress", "step": 3, "steps": 9, "step_s": 0.1})
        gangs.api.logs[pod["metadata"]["name"]] = [f"2026-01-01T00:00:00Z {line}"]

    gangs.fates = [stuck]
    supervisor = gangs.supervisor()
    minutes = iter(range(0, 10**9, 60))
    supervisor.watch.clock = lambda: float(next(minutes))
    with pytest.raises(NetworkError, match="stuck after step 3: no step has ended for"):
        supervisor.run()
    assert not list(gangs.api.of("jobsets"))


def test_a_preemption_is_not_counted(gangs: Gangs) -> None:
    gangs.fates = [*[gangs.failed(Outcome.PREEMPTED)] * 5, gangs.done]
    assert gangs.supervisor(relaunches=0).run() == RESULT
    assert len(gangs.made) == 6 and micro_batches(gangs) == ["4"] * 6


def test_a_restart_by_jobset_is_told_with_its_reason(gangs: Gangs, caplog: pytest.LogCaptureFixture) -> None:
    def restarts(jobset: Object) -> None:
        gangs.failed(Outcome.NETWORK, "lost node 1")(jobset)
        jobset["status"] = {}
        looks = iter([{}, {"restarts": 1}])

        def step(request: str) -> None:
            if request.startswith("GET jobsets train"):
                status = next(looks, None)
                if status is None:
                    gangs.done(jobset)
                else:
                    jobset["status"] = status

        gangs.api.on_request = step

    gangs.context.task = "train"
    gangs.fates = [restarts]
    supervisor = gangs.supervisor()
    with caplog.at_level(logging.WARNING, "mm1"):
        assert supervisor.run() == RESULT
    assert gangs.context.facts["relaunched"] == ["restart 1: node 0: network: lost node 1"]
    restarts = supervisor.metrics.samples()["mm1_training_restarts"]
    assert {item.labels[0]: item.value for item in restarts if item.value} == {"network": 1}
    assert "restarted (1)" in caplog.text


def test_metrics_count_restarts_and_launches_by_class_and_show_what_is_waited_for(gangs: Gangs) -> None:
    states = []

    def waits(jobset: Object) -> None:
        jobset["spec"]["suspend"] = True
        looks = iter(range(30))

        def step(request: str) -> None:
            look = next(looks, None)
            states.append(supervisor.metrics.state)
            if look == 10:
                jobset["spec"]["suspend"] = False
                gangs.pod(jobset, 0)
            elif look == 20:
                gangs.pod(jobset, 1)
            elif look is None:
                gangs.done(jobset)

        gangs.api.on_request = step

    gangs.fates = [gangs.failed(Outcome.OUT_OF_MEMORY), gangs.failed(Outcome.PREEMPTED), waits]
    supervisor = gangs.supervisor()
    supervisor.run()
    samples = supervisor.metrics.samples()["mm1_training_relaunches"]
    assert {item.labels[0]: item.value for item in samples if item.value} == {"out of memory": 1, "preempted": 1}
    assert list(dict.fromkeys(states[states.index("queued") :])) == ["queued", "pending", "starting"]


# -- adopted ----------------------------------------------------------------------------------------------------------


def test_a_jobset_of_a_former_supervisor_is_adopted(gangs: Gangs, caplog: pytest.LogCaptureFixture) -> None:
    gangs.fates = [gangs.failed(Outcome.OUT_OF_MEMORY), gangs.failed(Outcome.HARDWARE), gangs.running]
    gangs.stop_at("GET pods", after=3)
    with pytest.raises(Preempted):
        gangs.supervisor().run()
    left = gangs.made[-1]
    gangs.api.on_request = lambda _: None
    gangs.done(left)
    with caplog.at_level(logging.INFO, "mm1"):
        assert gangs.supervisor().run() == RESULT
    assert len(gangs.made) == 3 and f"{left['metadata']['name']} adopted" in caplog.text


def test_a_failed_jobset_of_a_former_supervisor_is_followed_by_the_next_one(gangs: Gangs) -> None:
    gangs.fates = [gangs.failed(Outcome.HARDWARE), gangs.failed(Outcome.DIVERGED)]
    with pytest.raises(DivergedError):
        gangs.supervisor().run()
    gangs.fates = [gangs.done]
    assert gangs.supervisor().run() == RESULT
    last = gangs.made[-1]["metadata"]
    assert last["name"].endswith("-2") and last["annotations"]["mm1.dev/avoid"] == "host-1"
    assert len(gangs.api.of("jobsets")) == 1


def test_jobsets_of_other_work_are_left_alone(gangs: Gangs) -> None:
    gangs.fates = [gangs.running, gangs.done]
    gangs.stop_at("GET pods", after=1)
    with pytest.raises(Preempted):
        gangs.supervisor().run()
    gangs.job = gangs.job.model_copy(update={"key": "other"})
    gangs.api.on_request = lambda _: None
    assert gangs.supervisor().run() == RESULT
    assert len(gangs.api.of("jobsets")) == 2


# -- waiting ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reason", ["ErrImagePull", "ImageInspectError", "CreateContainerConfigError"])
def test_an_image_that_cannot_be_pulled_ends_the_run_with_the_reason(gangs: Gangs, reason: str) -> None:
    def fate(jobset: Object) -> None:
        gangs.pod(jobset, 1, phase="Pending", state={"waiting": {"reason": reason, "message": "not found: registry/x"}})

    gangs.fates = [fate]
    with pytest.raises(ConfigurationError, match=f"node 1 is pending: {reason}: not found: registry/x; check the profile"):
        gangs.supervisor(pull_timeout_s=0).run()
    assert gangs.api.of("jobsets") == []


def test_the_first_reason_stays_while_the_kubelet_backs_off(gangs: Gangs, caplog: pytest.LogCaptureFixture) -> None:
    def fate(jobset: Object) -> None:
        looks = iter(range(30))

        def step(request: str) -> None:
            look = next(looks, None)
            if look is None:
                gangs.done(jobset)
                return
            reason, message = (("ErrImagePull", "x not found"), ("ImagePullBackOff", "Back-off"))[look // 10 % 2]
            gangs.pod(jobset, phase="Pending", state={"waiting": {"reason": reason, "message": message}})

        gangs.api.on_request = step

    gangs.fates = [fate]
    with caplog.at_level(logging.INFO, "mm1"):
        assert gangs.supervisor(pull_timeout_s=60).run() == RESULT
    pending = [record.message for record in caplog.records if "pending" in record.message]
    assert pending == ["node 0 is pending: ErrImagePull: x not found"]


def test_a_pod_that_waited_for_a_node_has_the_whole_time_to_pull_its_image(gangs: Gangs) -> None:
    def fate(jobset: Object) -> None:
        waiting = {"waiting": {"reason": "ErrImagePull", "message": "registry is busy"}}
        gangs.pod(jobset, phase="Pending", state=waiting)  # the pod is months old
        looks = iter(range(5))
        gangs.api.on_request = lambda _: gangs.done(jobset) if next(looks, None) is None else None

    gangs.fates = [fate]
    assert gangs.supervisor(pull_timeout_s=60).run() == RESULT


def test_what_is_waited_for_is_logged_once(gangs: Gangs, caplog: pytest.LogCaptureFixture) -> None:
    def fate(jobset: Object) -> None:
        jobset["spec"]["suspend"] = True
        condition = {"type": "QuotaReserved", "status": "False", "message": "1 more nvidia.com/gpu needed"}
        labels = {"kueue.x-k8s.io/job-uid": jobset["metadata"]["uid"]}
        gangs.api.put("workloads", {"metadata": {"name": "w", "labels": labels}, "status": {"conditions": [condition]}})
        looks = iter(range(40))

        def step(request: str) -> None:
            look = next(looks, None)
            if look == 20:
                jobset["spec"]["suspend"] = False
                condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
                gangs.pod(jobset, 1, phase="Pending", conditions=[condition])
            elif look is None:
                gangs.done(jobset)

        gangs.api.on_request = step

    gangs.fates = [fate]
    with caplog.at_level(logging.INFO, "mm1"):
        gangs.supervisor().run()
    messages = [record.message for record in caplog.records]
    assert messages.count("waiting for quota in queue team: 1 more nvidia.com/gpu needed") == 1
    assert messages.count("node 1 is pending: Unschedulable: 0/3 nodes") == 1


def test_a_gang_of_which_a_part_is_pending_fails_with_the_reason_of_that_part(gangs: Gangs) -> None:
    def fate(jobset: Object) -> None:
        gangs.pod(jobset)
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
        gangs.pod(jobset, 1, phase="Pending", conditions=[condition])
        looks = iter(range(20))

        def step(request: str) -> None:
            if next(looks, None) is None:
                report = json.dumps({"outcome": 84, "message": "the nodes have not met"})
                gangs.pod(jobset, phase="Failed", state={"terminated": {"exitCode": 84, "message": report}})
                jobset["status"] = {"terminalState": "Failed"}

        gangs.api.on_request = step

    gangs.fates = [fate]
    with pytest.raises(NetworkError, match="the nodes have not met; node 1 is pending: Unschedulable: 0/3 nodes"):
        gangs.supervisor().run()


# -- stopped ----------------------------------------------------------------------------------------------------------


LONG_AGO = "2026-01-01T00:00:00Z"
JUST_NOW = f"{datetime.now(UTC) - timedelta(seconds=100):%Y-%m-%dT%H:%M:%SZ}"


@pytest.mark.parametrize(
    ("workflow", "left"),
    [
        ({"spec": {}}, True),
        ({"spec": {"activeDeadlineSeconds": 10**6}, "status": {"phase": "Running", "startedAt": JUST_NOW}}, True),
        ({"spec": {}, "status": {"phase": "Running", "startedAt": LONG_AGO}}, True),
        ({"spec": {"activeDeadlineSeconds": 600}, "status": {"phase": "Running"}}, True),
        ({"spec": {"shutdown": "Stop"}}, False),
        ({"spec": {}, "metadata": {"deletionTimestamp": LONG_AGO}}, False),
        (None, False),
        ({"spec": {"activeDeadlineSeconds": 600}, "status": {"phase": "Running", "startedAt": LONG_AGO}}, False),
        ({"spec": {"activeDeadlineSeconds": 110}, "status": {"phase": "Running", "startedAt": JUST_NOW}}, False),
        ({"spec": {"activeDeadlineSeconds": 0}, "status": {"phase": "Running", "startedAt": JUST_NOW}}, False),
        (
            {
                "spec": {"workflowTemplateRef": {"name": "t"}},
                "status": {"startedAt": LONG_AGO, "storedWorkflowTemplateSpec": {"activeDeadlineSeconds": 600}},
            },
            False,
        ),
        ({"spec": {}, "status": {"phase": "Failed", "message": "Max duration limit exceeded"}}, False),
        ({"spec": {}, "status": {"phase": "", "finishedAt": LONG_AGO}}, False),
    ],
    ids=[
        "only this pod moves",
        "within its limit",
        "without a limit",
        "not yet started",
        "the run is stopped",
        "the run is deleted",
        "no workflow",
        "its time is up",
        "its time is almost up",
        "Kubeflow's Terminate",
        "the time of its template is up",
        "the run has failed",
        "the run has ended",
    ],
)
def test_ranks_end_with_the_run_and_outlive_their_supervisor(gangs: Gangs, workflow: Object | None, left: bool) -> None:
    item = gangs.api.objects.pop(("workflows", RUN))
    if workflow is not None:
        gangs.api.put("workflows", item | workflow | {"metadata": item["metadata"] | workflow.get("metadata", {})})
    gangs.fates = [gangs.running]
    gangs.stop_at("GET pods", after=2)
    with pytest.raises(Preempted):
        gangs.supervisor().run()
    assert bool(gangs.api.of("jobsets")) is left


@pytest.mark.parametrize(("attempt", "left"), [(0, True), (2, True), (3, False)])
def test_the_last_attempt_of_a_supervisor_leaves_nothing(gangs: Gangs, attempt: int, left: bool) -> None:
    gangs.attempt, gangs.context.run = attempt, "another-name"  # on Kubeflow, the pod knows the workflow's name
    gangs.fates = [gangs.running]
    gangs.stop_at("GET pods", after=2)
    with pytest.raises(Preempted):
        gangs.supervisor(retries=3).run()
    assert bool(gangs.api.of("jobsets")) is left
    assert gangs.made[0]["metadata"]["ownerReferences"][0]["name"] == RUN


@pytest.mark.parametrize(
    ("fault", "error", "left"),
    [
        (KeyError("a bug"), KeyError, False),
        (OSError(28, "No space left on device"), OSError, True),
        (NetworkError("the store is away"), NetworkError, True),
        (KeyboardInterrupt(), KeyboardInterrupt, False),
    ],
    ids=["an unforeseen error", "a full disk", "a network error", "Ctrl-C"],
)
def test_an_error_of_the_supervisor_itself_decides_about_its_ranks(
    gangs: Gangs, fault: BaseException, error: type[BaseException], left: bool
) -> None:
    def take(line: str) -> None:
        raise fault

    def fate(jobset: Object) -> None:
        gangs.running(jobset)
        gangs.api.logs[f"{jobset['metadata']['name']}-0"] = ["2026-01-01T00:00:00Z step 1"]

    gangs.fates = [fate]
    supervisor = gangs.supervisor()
    supervisor.take = take
    with pytest.raises(error):
        supervisor.run()
    assert bool(gangs.api.of("jobsets")) is left


def test_lost_permissions_end_the_ranks_as_far_as_they_can(gangs: Gangs, caplog: pytest.LogCaptureFixture) -> None:
    gangs.fates = [gangs.running, gangs.running]
    gangs.api.on_request = lambda request: gangs.api.refuse.update({"GET pods"}) if gangs.made else None
    with pytest.raises(ConfigurationError, match=r"pods of pretrain-.*\(403\)"):
        gangs.supervisor().run()
    assert gangs.api.of("jobsets") == [], "the JobSet can still be deleted"
    gangs.api.on_request = lambda request: gangs.api.refuse.update({"GET", "DELETE"}) if len(gangs.made) > 1 else None
    gangs.api.refuse.clear()
    with pytest.raises(ConfigurationError, match=r"\(403\)"):
        gangs.supervisor().run()
    assert len(gangs.api.of("jobsets")) == 1 and "without a supervisor it ends after 3600 s" in caplog.text


def test_a_request_to_stop_during_the_clean_up_does_not_end_it(gangs: Gangs) -> None:
    def bug(jobset: Object) -> None:
        gangs.running(jobset)
        gangs.stop_at("DELETE jobsets " + jobset["metadata"]["name"], after=1)
        gangs.api.logs[f"{jobset['metadata']['name']}-0"] = ["2026-01-01T00:00:00Z step 1"]

    def take(line: str) -> None:
        raise KeyError("a bug")

    gangs.fates = [bug]
    supervisor = gangs.supervisor()
    supervisor.take = take
    with pytest.raises(KeyError):
        supervisor.run()
    assert gangs.api.of("jobsets") == []


# -- the lease --------------------------------------------------------------------------------------------------------


def test_a_supervisor_extends_the_deadline_of_its_ranks(gangs: Gangs, monkeypatch: pytest.MonkeyPatch) -> None:
    def fate(jobset: Object) -> None:
        gangs.running(jobset)
        gangs.job_of(jobset, age_s=50)
        looks = iter(range(40))

        def step(request: str) -> None:
            look = next(looks, None)
            if look == 20:
                gangs.job_of(jobset, age_s=5_000)
            elif look is None:
                gangs.done(jobset)

        gangs.api.on_request = step

    def patches() -> int:
        return sum(request.startswith("PATCH jobs") for request in gangs.api.requests)

    gangs.fates = [fate, fate]
    assert gangs.supervisor(lease_s=600).run() == RESULT
    assert patches() == 1, "rarely: ten times per lease"
    gangs.api.objects.pop(("jobsets", gangs.made[0]["metadata"]["name"]))
    monkeypatch.setattr("mm1_components.ranks.jobset.lease.RENEWALS", 10**9)
    assert gangs.supervisor(lease_s=600).run() == RESULT
    (job,) = gangs.api.of("jobs")
    assert job["spec"]["activeDeadlineSeconds"] == pytest.approx(5_600, abs=30)


def test_suspended_and_failed_ranks_are_not_extended(gangs: Gangs) -> None:
    def fate(jobset: Object) -> None:
        gangs.running(jobset)
        del gangs.job_of(jobset)["status"]["startTime"]
        looks = iter(range(20))
        gangs.api.on_request = lambda _: gangs.done(jobset) if next(looks, None) is None else None

    gangs.fates = [fate]
    assert gangs.supervisor().run() == RESULT
    assert not any(request.startswith("PATCH") for request in gangs.api.requests)


def test_ranks_whose_lease_ended_are_launched_again(gangs: Gangs) -> None:
    def late(jobset: Object) -> None:
        gangs.job_of(jobset, age_s=4_000, reason="DeadlineExceeded")
        jobset["status"] = {"terminalState": "Failed"}

    gangs.fates = [late, gangs.done]
    assert gangs.supervisor(relaunches=0).run() == RESULT
    assert "without a supervisor for 3600 s" in gangs.context.facts["relaunched"][0]


def test_ranks_that_reach_the_time_limit_are_preempted_and_not_launched_again(gangs: Gangs) -> None:
    def fate(jobset: Object) -> None:
        job = gangs.job_of(jobset, age_s=800)
        looks = iter(range(20))

        def step(request: str) -> None:
            if next(looks, None) is None:
                gangs.job_of(jobset, age_s=1_000, reason="DeadlineExceeded")["spec"] |= job["spec"]
                jobset["status"] = {"terminalState": "Failed"}

        gangs.api.on_request = step

    gangs.fates = [fate]
    with pytest.raises(Preempted, match=r"time limit of 1000 s \(run_seconds"):
        gangs.supervisor(timeout_s=1_000, lease_s=600).run()
    assert len(gangs.made) == 1


# -- Events -----------------------------------------------------------------------------------------------------------


def events(gangs: Gangs) -> list[tuple[str, str, str, str]]:
    """Kind of the object, reason, type and message of each."""
    made = sorted(gangs.api.of("events"), key=lambda item: item["metadata"]["name"])
    return [(item["involvedObject"]["kind"], item["reason"], item["type"], item["message"]) for item in made]


def test_restarts_and_the_end_are_events_about_the_workflow(gangs: Gangs) -> None:
    gangs.fates = [gangs.failed(Outcome.OUT_OF_MEMORY), gangs.failed(Outcome.DIVERGED)]
    with pytest.raises(DivergedError):
        gangs.supervisor().run()
    relaunched, diverged = events(gangs)
    assert relaunched[:3] == ("Workflow", "Relaunched", "Warning") and "out of memory, micro_batch 4 -> 2" in relaunched[3]
    assert diverged == ("Workflow", "Diverged", "Warning", "pretrain: node 1: why")
    assert {item["involvedObject"]["uid"] for item in gangs.api.of("events")} == {"w"}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.BUDGET, ("BudgetUsedUp", "Normal")),
        (Outcome.CONFIGURATION, ("Configuration", "Warning")),
        (Outcome.UNHANDLED, ("Unhandled", "Warning")),
    ],
)
def test_an_end_with_a_saved_state_is_no_warning(gangs: Gangs, outcome: Outcome, expected: tuple[str, str]) -> None:
    gangs.attempt = 0
    del gangs.api.objects["workflows", RUN]
    gangs.fates = [gangs.failed(outcome, "w" * 2000)]
    with pytest.raises(Mm1Error):
        gangs.supervisor().run()
    [(kind, reason, severity, message)] = events(gangs)
    assert (kind, reason, severity, len(message)) == ("Pod", *expected, 1024), "of the pod, and no longer than Kubernetes takes"


def test_an_event_that_is_refused_changes_nothing(gangs: Gangs, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    gangs.api.refuse.add("POST events")
    gangs.fates = [gangs.failed(Outcome.OUT_OF_MEMORY), gangs.done]
    assert gangs.supervisor().run() == RESULT
    assert gangs.api.requests.count("POST events") == 1 and not gangs.api.of("events"), "tried once"
    assert f"no Event Relaunched about {RUN}: Forbidden" in caplog.text
