"""What the supervisor makes of its JobSets, against a Kubernetes API whose JobSet controller is the test."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mm1.errors import ConfigurationError, DivergedError, HardwareError, Mm1Error, NetworkError, Outcome, OutOfMemory, Preempted
from mm1.recipes import registry
from mm1.store.local import LocalStore
from mm1.train.config import TrainJob, TrainResult
from mm1_components.ranks.jobset.api import Cluster
from mm1_components.ranks.jobset.supervisor import Supervisor
from mm1_components.ranks.launcher import Launcher, Layout, result_key
from mm1_components.wrapper.declaration import Context
from mm1_components.wrapper.pools import Pool
from tests.support.kube_api import NAMESPACE, KubeApi, Object, kube_api

LAUNCHER = Launcher(
    pool="gpu", pools={"gpu": Pool(image="trainer", gpus=1)}, images={"trainer": "registry.example.org/t"}, queue="team"
)
RESULT = TrainResult(
    manifest="m", steps=4, resumed_from=0, seconds=1.0, tokens=8, tokens_per_s=8.0, padding_share=0.0, losses={}, facts={}
)
INDEX = "batch.kubernetes.io/job-completion-index"
RUN, TASK = "run-1", "pretrain"


class Gangs:
    """A piece of work on a cluster, and a JobSet controller that lets each JobSet end as the test says."""

    def __init__(self, api: KubeApi, folder: Path) -> None:
        self.api, self.store = api, LocalStore(folder / "store")
        self.context = Context(store=self.store, run=RUN, task=TASK, key="k", code="", work=folder, artifacts={})
        config = registry.get("mm1_tiny")
        train = config.train.model_copy(update={"micro_batch": 4, "global_batch": 8})
        self.job = TrainJob(
            config=config.model_copy(update={"train": train}), data="d", store=self.store.uri, key="work", folder=""
        )
        self.made: list[Object] = []
        self.fates: list[Callable[[Object], None]] = []
        self.lines: list[str] = []
        api.on_create = self.created
        api.put("workflows", {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
                              "metadata": {"name": RUN, "uid": "w"}, "spec": {}})  # fmt: skip

    def created(self, jobset: Object) -> None:
        """What a controller would do: the next fate."""
        self.made.append(jobset)
        self.fates.pop(0)(jobset)

    def supervisor(self, **launcher: Any) -> Supervisor:
        cluster = Cluster(self.api.client, NAMESPACE, pause=lambda _: None)
        launched = LAUNCHER.model_copy(update=launcher)
        return Supervisor(self.job, Layout(nodes=2), self.context, launched, self.lines.append, cluster, poll_s=0.001)

    def pod(
        self, jobset: Object, index: int = 0, *, phase: str = "Running", state: Object | None = None, **status: Any
    ) -> Object:
        """A rank's pod of a JobSet, old enough to have waited for a node."""
        gang = jobset["metadata"]["name"]
        metadata = {
            "name": f"{gang}-{index}",
            "uid": f"{gang}-{index}",
            "labels": jobset["metadata"]["labels"] | {"jobset.sigs.k8s.io/jobset-name": gang},
            "annotations": {INDEX: str(index)},
            "creationTimestamp": "2026-01-01T00:00:00Z",
        }
        containers = [{"name": "main", "state": state or {}}]
        pod = {"metadata": metadata, "spec": {"nodeName": f"host-{index}"}}
        self.api.put("pods", pod | {"status": {"phase": phase, "containerStatuses": containers, **status}})
        return pod

    # -- fates ------------------------------------------------------------------------------------------------

    def done(self, jobset: Object) -> None:
        """All ranks did their work; node 0 left the result."""
        pod = self.pod(jobset, phase="Succeeded", state={"terminated": {"exitCode": 0}})
        self.api.logs[pod["metadata"]["name"]] = ["2026-01-01T00:00:00Z step 1", "2026-01-01T00:00:01Z step 2"]
        self.store.write_json(result_key(self.job.key), RESULT.model_dump(mode="json"))
        jobset["status"] = {"terminalState": "Completed"}

    def failed(self, outcome: Outcome, message: str = "why") -> Callable[[Object], None]:
        """Node 1 failed; node 0 lost the connection to it."""

        def fate(jobset: Object) -> None:
            for index, ending in enumerate((Outcome.NETWORK, outcome)):
                report = json.dumps({"outcome": int(ending), "message": message})
                terminated = {"exitCode": int(ending), "reason": "Error", "message": report}
                self.pod(jobset, index, phase="Failed", state={"terminated": terminated})
            jobset["status"] = {"terminalState": "Failed"}

        return fate

    def running(self, jobset: Object) -> None:
        """Its ranks run."""
        self.pod(jobset)


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
    with pytest.raises(NetworkError, match=r"left no launch/work/result\.json"):
        gangs.supervisor().run()


@pytest.mark.parametrize(
    ("outcome", "error"),
    [(Outcome.DIVERGED, DivergedError), (Outcome.CONFIGURATION, ConfigurationError), (Outcome.UNHANDLED, Mm1Error)],
)
def test_the_class_of_the_rank_that_explains_the_others_is_raised(
    gangs: Gangs, outcome: Outcome, error: type[Mm1Error]
) -> None:
    gangs.fates = [gangs.failed(outcome)]
    with pytest.raises(error, match="node 1: why") as caught:
        gangs.supervisor().run()
    assert caught.value.outcome is outcome


def test_a_jobset_that_fails_without_pods_says_what_kubernetes_says(gangs: Gangs) -> None:
    def fate(jobset: Object) -> None:
        conditions = [{"type": "Failed", "status": "True", "message": "jobset failed: DeadlineExceeded"}]
        jobset["status"] = {"terminalState": "Failed", "conditions": conditions}

    gangs.fates = [fate]
    with pytest.raises(NetworkError, match="DeadlineExceeded"):
        gangs.supervisor().run()


def test_a_jobset_that_somebody_deletes_is_a_failure_that_may_pass(gangs: Gangs) -> None:
    gangs.fates = [lambda jobset: gangs.api.objects.clear()]
    with pytest.raises(NetworkError, match="was deleted from outside"):
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
    with caplog.at_level(logging.WARNING, "mm1"):
        assert gangs.supervisor().run() == RESULT
    assert gangs.context.facts["relaunched"] == ["restart 1: node 0: network: lost node 1"]
    assert "restarted (1)" in caplog.text


# -- adopted ----------------------------------------------------------------------------------------------------------


def test_a_jobset_of_a_former_supervisor_is_adopted(gangs: Gangs, caplog: pytest.LogCaptureFixture) -> None:
    gangs.fates = [gangs.failed(Outcome.OUT_OF_MEMORY), gangs.failed(Outcome.HARDWARE), gangs.running]
    stop_at(gangs, "GET pods", after=3)
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
    stop_at(gangs, "GET pods", after=1)
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
    with pytest.raises(ConfigurationError, match=f"node 1 is pending: {reason}: not found: registry/x; correct the image"):
        gangs.supervisor(pull_timeout_s=0).run()
    assert gangs.api.of("jobsets") == []


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


# -- stopped ----------------------------------------------------------------------------------------------------------


def stop_at(gangs: Gangs, request: str, *, after: int) -> None:
    """SIGTERM to this process, as the kubelet sends it, with the request of that number."""
    seen = 0

    def step(made: str) -> None:
        nonlocal seen
        seen += made == request
        if seen == after:
            seen += 1
            os.kill(os.getpid(), signal.SIGTERM)

    gangs.api.on_request = step


@pytest.mark.parametrize(
    ("workflow", "left"),
    [
        ({"spec": {}}, True),
        ({"spec": {"shutdown": "Stop"}}, False),
        ({"spec": {}, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}, False),
        (None, False),
    ],
    ids=["only this pod moves", "the run is stopped", "the run is deleted", "no workflow"],
)
def test_ranks_end_with_the_run_and_outlive_their_supervisor(gangs: Gangs, workflow: Object | None, left: bool) -> None:
    item = gangs.api.objects.pop(("workflows", RUN))
    if workflow is not None:
        gangs.api.put("workflows", item | workflow | {"metadata": item["metadata"] | workflow.get("metadata", {})})
    gangs.fates = [gangs.running]
    stop_at(gangs, "GET pods", after=2)
    with pytest.raises(Preempted):
        gangs.supervisor().run()
    assert bool(gangs.api.of("jobsets")) is left
