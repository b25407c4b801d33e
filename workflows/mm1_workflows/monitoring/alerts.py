"""Alerts about trainings and the served model, as groups of rules for Prometheus.

``charts/mm1/files/alerts.yaml`` is made from here (``make golden``). It has ``${name}`` where the chart puts a threshold of its
values (``monitoring.rules.thresholds``), or its namespace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import yaml

from mm1.errors import SAVED, Outcome

TRAINING, SERVING = "mm1-training", "mm1-serving"
HERE = 'namespace="${namespace}"'
CANARY = f'{HERE}, pod=~"mm1-serve-canary-.*"'
FINAL = "|".join(
    outcome.label for outcome in Outcome if outcome is not Outcome.DONE and outcome not in SAVED and not outcome.retried
)
RETRIED = "|".join(outcome.label for outcome in Outcome if outcome.retried and outcome is not Outcome.PREEMPTED)
RUN = "{{ $labels.run }}/{{ $labels.task }}"
AGE = "{{ $value | humanizeDuration }}"
SHARE = "{{ $value | humanizePercentage }}"


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A number in alerts that a site may change."""

    default: float
    meaning: str


THRESHOLDS: Mapping[str, Threshold] = {
    "stuckSeconds": Threshold(
        default=900, meaning="seconds without a step while steps should end; at least 20 mean steps, whatever this says"
    ),
    "checkpointSeconds": Threshold(default=7200, meaning="age of the last checkpoint: the work that a failure would lose"),
    "queuedSeconds": Threshold(default=14400, meaning="time in the queue without quota"),
    "pendingSeconds": Threshold(default=1800, meaning="time from quota to the first step"),
    "lossRatio": Threshold(default=1.5, meaning="loss divided by its median of the last hour"),
    "skippedBatches": Threshold(default=1, meaning="batches skipped within an hour"),
    "spikes": Threshold(default=20, meaning="steps within an hour that did not update the weights"),
    "dataWaitRatio": Threshold(default=0.3, meaning="share of the time of steps that waits for data"),
    "storeFailures": Threshold(default=20, meaning="requests to the store that failed within 15 minutes"),
    "diskFreeRatio": Threshold(default=0.1, meaning="free share of the scratch disk of rank 0"),
    "restarts": Threshold(default=3, meaning="restarts and launches within an hour, without preemptions"),
    "errorRatio": Threshold(default=0.05, meaning="share of requests for answers with a reply of 500 or above"),
    "rejectedRatio": Threshold(default=0.05, meaning="share of requests for answers that were refused with 429"),
    "queueRatio": Threshold(default=0.8, meaning="length of the server's queue divided by its maximum"),
    "firstTokenSeconds": Threshold(default=10, meaning="95th percentile of the time to the first token"),
    "notReadySeconds": Threshold(default=300, meaning="seconds without any server that takes requests"),
}


@dataclass(frozen=True, kw_only=True)
class Alert:
    """An alert."""

    name: str
    group: str
    """TRAINING or SERVING; the chart has the latter only with a server."""
    severity: Literal["warning", "critical"]
    expression: str
    """In Prometheus' query language, with placeholders."""
    for_: str = "0s"
    """How long the expression has to hold."""
    summary: str
    """One line with what has happened."""
    action: str
    """What to do."""


ALERTS = (
    Alert(
        name="Mm1TrainingStuck",
        group=TRAINING,
        severity="critical",
        expression=f"mm1_training_step_age_seconds{{{HERE}}}\n"
        f"> clamp_min(20 * mm1_training_step_seconds{{{HERE}}}, ${{stuckSeconds}})\n"
        f'and ignoring (state) mm1_training_state{{{HERE}, state=~"running|stuck"}} == 1',
        for_="1m",
        summary=f"{RUN}: no step has ended for {AGE}",
        action="Read the log of the training and the state of its pods. The supervisor ends stuck ranks by itself; their "
        "stacks are then in the store.",
    ),
    Alert(
        name="Mm1TrainingNoCheckpoint",
        group=TRAINING,
        severity="critical",
        expression=f"mm1_training_checkpoint_age_seconds{{{HERE}}} > ${{checkpointSeconds}}\n"
        f'and ignoring (state) mm1_training_state{{{HERE}, state=~"running|paused|stuck"}} == 1',
        for_="5m",
        summary=f"{RUN}: the last checkpoint is {AGE} old",
        action="Compare train.checkpoint_every with the time of a step. If checkpoints are due, look for errors of the store "
        "in the log.",
    ),
    Alert(
        name="Mm1TrainingLossSpike",
        group=TRAINING,
        severity="warning",
        expression=f"mm1_training_loss{{{HERE}}}\n> ${{lossRatio}} * quantile_over_time(0.5, mm1_training_loss{{{HERE}}}[1h])",
        for_="5m",
        summary=f"{RUN}: the loss is {{{{ $value | humanize }}}}, far above its median of the last hour",
        action="Look at the losses of the sources and the gradient norm. A run that does not recover ends as diverged; lower "
        "the learning rate or skip the data.",
    ),
    Alert(
        name="Mm1TrainingBatchesSkipped",
        group=TRAINING,
        severity="warning",
        expression=f"delta(mm1_training_skipped_batches{{{HERE}}}[1h]) >= ${{skippedBatches}}\n"
        f"or delta(mm1_training_spikes{{{HERE}}}[1h]) >= ${{spikes}}",
        summary=f"{RUN}: batches were skipped, or many steps did not update the weights",
        action="Look at the loss and the gradient norm before these steps, and at the data of the batches that the log names.",
    ),
    Alert(
        name="Mm1TrainingWaitsForData",
        group=TRAINING,
        severity="warning",
        expression=f'mm1_training_phase_ratio{{{HERE}, phase="data"}} > ${{dataWaitRatio}}',
        for_="30m",
        summary=f"{RUN}: steps wait for data {SHARE} of the time",
        action="Give the pool more CPUs or the trainer more loader workers; check the bandwidth of the store.",
    ),
    Alert(
        name="Mm1TrainingStoreFailures",
        group=TRAINING,
        severity="warning",
        expression=f"delta(mm1_training_store_failures{{{HERE}}}[15m]) >= ${{storeFailures}}",
        for_="5m",
        summary=f"{RUN}: {{{{ $value | humanize }}}} requests to the store have failed within 15 minutes",
        action="They are retried; if they go on, checkpoints fail. Check the store, its limits of requests, and the network.",
    ),
    Alert(
        name="Mm1TrainingDiskFull",
        group=TRAINING,
        severity="critical",
        expression=f"mm1_training_disk_free_ratio{{{HERE}}} < ${{diskFreeRatio}}",
        for_="5m",
        summary=f"{RUN}: {SHARE} of the scratch disk of rank 0 are free",
        action="The kubelet evicts pods from a full disk. Look for what fills the node's disk; use nodes with a larger one.",
    ),
    Alert(
        name="Mm1TrainingQueued",
        group=TRAINING,
        severity="warning",
        expression=f'max by (namespace, run, task, stage, recipe) (mm1_training_state{{{HERE}, state="queued"}}) == 1',
        for_="${queuedSeconds}s",
        summary=f"{RUN}: has waited for quota for long",
        action="The log of the task says what Kueue lacks. Raise the quota, use fewer nodes, or a higher priority.",
    ),
    Alert(
        name="Mm1TrainingPending",
        group=TRAINING,
        severity="warning",
        expression="max by (namespace, run, task, stage, recipe) "
        f'(mm1_training_state{{{HERE}, state=~"pending|starting"}}) == 1',
        for_="${pendingSeconds}s",
        summary=f"{RUN}: no step has ended yet, although there is quota",
        action="The log of the task says why pods are pending. Check nodes, taints and images, then the log of the ranks.",
    ),
    Alert(
        name="Mm1TrainingRestarts",
        group=TRAINING,
        severity="warning",
        expression=f'sum by (namespace, run, task) (increase(mm1_training_restarts_total{{{HERE}, reason!="preempted"}}[1h]))\n'
        f'+ sum by (namespace, run, task) (increase(mm1_training_relaunches_total{{{HERE}, reason!="preempted"}}[1h]))\n'
        ">= ${restarts}\n"
        f"or count by (namespace, run, task) "
        f'(last_over_time(mm1_training_outcome{{{HERE}, outcome=~"{RETRIED}"}}[1h])) >= ${{restarts}}',
        summary=f"{RUN}: has started again {{{{ $value | humanize }}}} times within an hour",
        action="The run record lists the reasons (mm1 runs). A node that appears in several of them should be drained.",
    ),
    Alert(
        name="Mm1TrainingFailed",
        group=TRAINING,
        severity="critical",
        expression="max by (namespace, run, task, stage, recipe, outcome) "
        f'(last_over_time(mm1_training_outcome{{{HERE}, outcome=~"{FINAL}"}}[15m])) == 1',
        summary=f"{RUN}: failed ({{{{ $labels.outcome }}}})",
        action="docs/how-to/failures.md explains each outcome class; the run is not retried by itself.",
    ),
    Alert(
        name="Mm1ServingNotReady",
        group=SERVING,
        severity="critical",
        expression=f"absent(mm1_serving_ready{{{HERE}}} == 1)",
        for_="${notReadySeconds}s",
        summary="No server takes requests",
        action="Look at the pods of the Deployment mm1-serve: pending, loading the model, no model promoted yet, refused "
        "signature, or out of memory.",
    ),
    Alert(
        name="Mm1ServingErrors",
        group=SERVING,
        severity="critical",
        expression=f'sum by (namespace) (rate(mm1_requests_total{{{HERE}, route=~"/v1/.*", code=~"5.."}}[5m]))\n'
        f'/ sum by (namespace) (rate(mm1_requests_total{{{HERE}, route=~"/v1/.*"}}[5m])) > ${{errorRatio}}',
        for_="5m",
        summary=f"{SHARE} of the requests fail",
        action="The server's log has the errors. If a new model was promoted just before (mm1 rollout history), go back: "
        "mm1 rollout rollback -n NAMESPACE.",
    ),
    Alert(
        name="Mm1ServingCanaryFails",
        group=SERVING,
        severity="warning",
        expression=f'sum by (namespace) (rate(mm1_requests_total{{{CANARY}, route=~"/v1/.*", code=~"5.."}}[5m]))\n'
        f'/ sum by (namespace) (rate(mm1_requests_total{{{CANARY}, route=~"/v1/.*"}}[5m])) > ${{errorRatio}}\n'
        f"or max by (namespace) (max_over_time(mm1_serving_ready{{{CANARY}}}[${{notReadySeconds}}s])\n"
        f"and mm1_serving_ready{{{CANARY}}} offset ${{notReadySeconds}}s) == 0",
        summary="The canary fails requests, or does not become ready",
        action="The rollout goes back by itself; mm1 rollout history -n NAMESPACE has its reason, and the log of the "
        "canary's pod the errors.",
    ),
    Alert(
        name="Mm1ServingRejections",
        group=SERVING,
        severity="warning",
        expression=f'sum by (namespace) (rate(mm1_requests_total{{{HERE}, route=~"/v1/.*", code="429"}}[5m]))\n'
        f'/ sum by (namespace) (rate(mm1_requests_total{{{HERE}, route=~"/v1/.*"}}[5m])) > ${{rejectedRatio}}',
        for_="5m",
        summary=f"{SHARE} of the requests are refused because the queue is full",
        action="Add replicas (serving.replicas, or serving.autoscaling).",
    ),
    Alert(
        name="Mm1ServingQueueFull",
        group=SERVING,
        severity="warning",
        expression=f"sum by (namespace) (mm1_answers_waiting{{{HERE}}})\n"
        f"/ sum by (namespace) (mm1_answers_waiting_limit{{{HERE}}}) > ${{queueRatio}}",
        for_="5m",
        summary=f"The queue of answers is {SHARE} full",
        action="Add replicas (serving.replicas, or serving.autoscaling), or limit the length of answers (serving.maxTokens).",
    ),
    Alert(
        name="Mm1ServingSlow",
        group=SERVING,
        severity="warning",
        expression="histogram_quantile(0.95, sum by (namespace, le) "
        f"(rate(mm1_time_to_first_token_seconds_bucket{{{HERE}}}[5m]))) > ${{firstTokenSeconds}}",
        for_="10m",
        summary=f"One of twenty requests waits more than {AGE} for its first token",
        action="Look at the queue and at the length of prompts; add replicas or a faster pool.",
    ),
)


class _BlockDumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_BlockDumper.add_representer(str, _represent_text)


def rule_groups() -> dict[str, Any]:
    """Return the content of Prometheus' rule file, with placeholders."""
    groups = []
    for group in (TRAINING, SERVING):
        rules = [
            {
                "alert": alert.name,
                "expr": alert.expression,
                "for": alert.for_,
                "labels": {"severity": alert.severity, "namespace": "${namespace}"},
                "annotations": {"summary": alert.summary, "action": alert.action},
            }
            for alert in ALERTS
            if alert.group == group
        ]
        groups.append({"name": group, "rules": rules})
    return {"groups": groups}


def as_text() -> str:
    """Return the rule file that the chart reads."""
    head = "# Made from mm1_workflows/monitoring/alerts.py by `make golden`; do not edit.\n"
    return head + yaml.dump(rule_groups(), Dumper=_BlockDumper, sort_keys=False, width=1000)


def filled(text: str, values: Mapping[str, Any]) -> str:
    """Replace the placeholders of a rule file, as the chart does.

    Args:
        text: of :func:`as_text`.
        values: namespace and thresholds; thresholds that are missing have their defaults.
    """
    numbers = {name: f"{threshold.default:g}" for name, threshold in THRESHOLDS.items()}
    for name, value in {**numbers, **values}.items():
        text = text.replace(f"${{{name}}}", str(value))
    return text
