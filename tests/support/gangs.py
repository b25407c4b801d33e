"""A piece of work on a cluster whose JobSet controller is the test: each JobSet ends as it is told."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mm1.errors import Outcome
from mm1.recipes import registry
from mm1.store.local import LocalStore
from mm1.train.config import TrainJob, TrainResult
from mm1_components.ranks.jobset.api import Cluster
from mm1_components.ranks.jobset.supervisor import Supervisor
from mm1_components.ranks.launcher import Launcher, Layout, result_key
from mm1_components.wrapper.declaration import Context
from mm1_components.wrapper.pools import Pool
from tests.support.kube_api import NAMESPACE, KubeApi, Object

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
        self.attempt: int | None = None
        """Number of the attempt of the supervisor's step, from 0, as its pod has it; None: its pod is not known."""
        api.on_create = self.created
        api.put("workflows", {"apiVersion": "argoproj.io/v1alpha1", "kind": "Workflow",
                              "metadata": {"name": RUN, "uid": "w"}, "spec": {}})  # fmt: skip

    def created(self, jobset: Object) -> None:
        """What a controller would do: the next fate of a JobSet."""
        if "involvedObject" in jobset:
            return
        self.made.append(jobset)
        self.fates.pop(0)(jobset)

    def supervisor(self, **launcher: Any) -> Supervisor:
        cluster = Cluster(
            self.api.client, NAMESPACE, pause=lambda _: None, pod="supervisor" if self.attempt is not None else ""
        )
        launched = LAUNCHER.model_copy(update=launcher)
        if self.attempt is not None:
            labels = {"workflows.argoproj.io/workflow": RUN}
            annotations = {"workflows.argoproj.io/node-name": f"{RUN}.pretrain({self.attempt})"}
            self.api.put("pods", {"metadata": {"name": "supervisor", "uid": "s", "labels": labels, "annotations": annotations}})
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

    def job_of(self, jobset: Object, *, age_s: float = 0.0, reason: str = "") -> Object:
        """The Job of a JobSet, which started some time ago, and failed if there is a reason."""
        name = jobset["metadata"]["name"]
        start = datetime.now(UTC) - timedelta(seconds=age_s)
        job = {
            "metadata": {"name": f"{name}-node-0", "labels": {"jobset.sigs.k8s.io/jobset-name": name}},
            "spec": {"activeDeadlineSeconds": _deadline(jobset)},
            "status": {"startTime": f"{start:%Y-%m-%dT%H:%M:%SZ}"},
        }
        if reason:
            job["status"]["conditions"] = [{"type": "Failed", "status": "True", "reason": reason}]
        self.api.put("jobs", job)
        return job

    def stop_at(self, request: str, *, after: int) -> None:
        """SIGTERM to this process, as the kubelet sends it, with the request of that number."""
        seen = 0

        def step(made: str) -> None:
            nonlocal seen
            seen += made == request
            if seen == after:
                seen += 1
                os.kill(os.getpid(), signal.SIGTERM)

        self.api.on_request = step


def _deadline(jobset: Object) -> int:
    return int(jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["activeDeadlineSeconds"])
