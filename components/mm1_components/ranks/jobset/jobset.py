"""The JobSet of a training run, as plain data: one replicated job with one pod per node, each running torchrun.

Exit codes that a restart cannot fix fail the JobSet at once. Any other failure restarts the whole gang, and the ranks resume
from the last checkpoint. A lost pod or a network error counts towards `maxRestarts`, a preemption (the ranks have saved, or
the node is being drained) does not. A Job that reaches its deadline fails the JobSet: no supervisor has extended it
(:mod:`mm1_components.ranks.jobset.lease`). The supervisor handles the other cases
(:mod:`mm1_components.ranks.jobset.supervisor`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from mm1.errors import Outcome
from mm1.train.config import TrainJob
from mm1_components.ranks.jobset.names import (
    ATTEMPT_ANNOTATION,
    AVOID_ANNOTATION,
    DEADLINE_EXCEEDED,
    HOST_LABEL,
    JOBSET,
    KEY_ANNOTATION,
    MAIN_CONTAINER,
    MICRO_BATCH_ANNOTATION,
    PRIORITY_LABEL,
    QUEUE_LABEL,
    RANK_ROLE,
    ROLE_LABEL,
    RUN_LABEL,
    TASK_LABEL,
)
from mm1_components.ranks.launcher import Launcher, Layout
from mm1_components.ranks.waits import STOP_MARGIN_S
from mm1_components.wrapper.pools import POOL_LABEL, Pool

REPLICATED_JOB = "node"
PORT = 29500
FINAL = (
    Outcome.CONFIGURATION,
    Outcome.DATA,
    Outcome.DIVERGED,
    Outcome.OUT_OF_MEMORY,
    Outcome.HARDWARE,
    Outcome.CHECKPOINT,
    Outcome.BUDGET,
)
"""Outcomes that restarting the same ranks on the same nodes does not change."""
KEEP_FINISHED_S = 600


@dataclass(frozen=True, kw_only=True)
class Gang:
    """The work of one JobSet."""

    run: str
    """Name of the workflow."""
    task: str
    key: str
    """Cache key of the work."""
    attempt: int
    """Index of the JobSet among those for this work, from 0."""
    avoid: tuple[str, ...] = ()
    """Host names of nodes that reported a hardware fault."""
    owner: dict[str, Any] | None = None
    """Owner reference to the workflow, so that the JobSet is deleted with it."""

    @property
    def name(self) -> str:
        """Name of the JobSet; at most 36 characters, because the names of pods and hosts are derived from it."""
        plain = re.sub(r"[^a-z0-9]+", "-", self.task.lower()).strip("-")[:20].strip("-") or "train"
        digest = hashlib.sha256(f"{self.run}/{self.task}/{self.key}".encode()).hexdigest()[:10]
        return f"{plain}-{digest}-{self.attempt}"

    @property
    def labels(self) -> dict[str, str]:
        """Labels of the JobSet and its pods."""
        return {
            "app.kubernetes.io/part-of": "mm1",
            RUN_LABEL: label_value(self.run),
            TASK_LABEL: label_value(self.task),
            ROLE_LABEL: RANK_ROLE,
        }


def label_value(text: str) -> str:
    """Convert a text to a label value: its first 63 characters, with invalid characters replaced by dashes."""
    return re.sub(r"[^-A-Za-z0-9_.]+", "-", text)[:63].strip("-_.")


def manifest(gang: Gang, job: TrainJob, layout: Layout, launcher: Launcher) -> dict[str, Any]:
    """Build the JobSet.

    Raises:
        ConfigurationError: the layout names an unknown pool.
    """
    pool_name, pool = layout.pool or launcher.pool, layout.pool_of(launcher)
    queueing = {QUEUE_LABEL: launcher.queue, PRIORITY_LABEL: launcher.priority}
    labels = gang.labels | {label: name for label, name in queueing.items() if name}
    metadata: dict[str, Any] = {
        "name": gang.name,
        "labels": labels,
        "annotations": {
            ATTEMPT_ANNOTATION: str(gang.attempt),
            MICRO_BATCH_ANNOTATION: str(job.config.train.micro_batch),
            KEY_ANNOTATION: gang.key,
            AVOID_ANNOTATION: " ".join(gang.avoid),
        },
    }
    if gang.owner:
        metadata["ownerReferences"] = [gang.owner]
    return {
        "apiVersion": JOBSET,
        "kind": "JobSet",
        "metadata": metadata,
        "spec": {
            "ttlSecondsAfterFinished": KEEP_FINISHED_S,
            "network": {"enableDNSHostnames": True, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": launcher.restarts,
                "rules": [
                    _restart_rule("final", "FailJobSet", 0),
                    _restart_rule("saved", "RestartJobSetAndIgnoreMaxRestarts", 1),
                    _restart_rule("disrupted", "RestartJobSetAndIgnoreMaxRestarts", 2),
                    {"name": "late", "action": "FailJobSet", "onJobFailureReasons": [DEADLINE_EXCEEDED]},
                ],
            },
            "replicatedJobs": [
                {
                    "name": REPLICATED_JOB,
                    "replicas": 1,
                    "template": {
                        "metadata": {"labels": gang.labels},
                        "spec": _job(gang, job, layout, launcher, pool_name, pool),
                    },
                }
            ],
        },
    }


def _job(gang: Gang, job: TrainJob, layout: Layout, launcher: Launcher, pool_name: str, pool: Pool) -> dict[str, Any]:
    metadata: dict[str, Any] = {"labels": gang.labels | {POOL_LABEL: pool_name}}
    if pool.network.annotations:
        metadata["annotations"] = dict(pool.network.annotations)
    return {
        "parallelism": layout.nodes,
        "completions": layout.nodes,
        "completionMode": "Indexed",
        "backoffLimit": 0,
        "activeDeadlineSeconds": launcher.deadline_s(0),  # the supervisor extends it (:mod:`.lease`)
        "podFailurePolicy": {
            "rules": [  # the JobSet's failure policy refers to these rules by index
                _exit_rule([int(outcome) for outcome in FINAL]),
                _exit_rule([int(Outcome.PREEMPTED)]),
                {"action": "FailJob", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
            ]
        },
        "template": {
            "metadata": metadata,
            "spec": _pod(gang, job, layout, launcher, pool),
        },
    }


def _exit_rule(codes: list[int]) -> dict[str, Any]:
    return {"action": "FailJob", "onExitCodes": {"containerName": MAIN_CONTAINER, "operator": "In", "values": codes}}


def _restart_rule(name: str, action: str, index: int) -> dict[str, Any]:
    """Build the JobSet's rule for a Job that failed by the rule with this index in its pod failure policy."""
    return {
        "name": name,
        "action": action,
        "onJobFailureReasons": ["PodFailurePolicy"],
        "onJobFailureMessagePatterns": [f"rule at index {index}$"],
    }


def _pod(gang: Gang, job: TrainJob, layout: Layout, launcher: Launcher, pool: Pool) -> dict[str, Any]:
    claims = launcher.volumes
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": launcher.account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": launcher.grace_s,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(gang, job, layout, launcher, pool)],
        "volumes": [
            {"name": "tmp", "emptyDir": {"sizeLimit": pool.scratch}},
            {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": pool.shared_memory}},
            *(claim.volume for claim in claims),
        ],
    }
    if pool.labels:
        spec["nodeSelector"] = dict(pool.labels)
    if pool.taints:
        spec["tolerations"] = pool.tolerations
    if gang.avoid:  # preferred, not required: the same node is better than none
        other_nodes = {"matchExpressions": [{"key": HOST_LABEL, "operator": "NotIn", "values": list(gang.avoid)}]}
        preferred = [{"weight": 100, "preference": other_nodes}]
        spec["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}
    return spec


def _container(gang: Gang, job: TrainJob, layout: Layout, launcher: Launcher, pool: Pool) -> dict[str, Any]:
    # Kubernetes expands $(NAME) in arguments; a regular expression in the configuration may contain it.
    launched = job.model_copy(update={"logs": job.logs.of_launch(gang.attempt)})
    config = launched.model_dump_json().replace("$(", "$$(")
    master = f"{gang.name}-{REPLICATED_JOB}-0-0.{gang.name}"
    container: dict[str, Any] = {
        "name": MAIN_CONTAINER,
        "image": launcher.images[pool.image],
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-m", "mm1_components.ranks.node"],
        "args": [
            f"--nodes={layout.nodes}",
            f"--processes={layout.ranks_per_node(pool.gpus)}",
            f"--master={master}:{PORT}",
            f"--grace-s={max(1, launcher.grace_s - STOP_MARGIN_S)}",
            f"--job={config}",
        ],
        "env": [{"name": name, "value": value} for name, value in _environment(launcher, pool).items()],
        "resources": pool.resources,
        "terminationMessagePolicy": "File",
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "shm", "mountPath": "/dev/shm"},
            *(claim.mount for claim in launcher.volumes),
        ],
    }
    if launcher.environment_secret:
        container["envFrom"] = [{"secretRef": {"name": launcher.environment_secret, "optional": True}}]
    return container


def _environment(launcher: Launcher, pool: Pool) -> dict[str, str]:
    return {"PYTHONUNBUFFERED": "1"} | pool.network.environment | launcher.environment
