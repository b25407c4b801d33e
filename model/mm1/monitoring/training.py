"""Metrics of a training, exposed by the process that starts and follows its ranks.

Most values come from the progress lines of rank 0 (:mod:`mm1.train.callbacks.progress`); the process itself knows the others. A
value that the trainer does not report, such as the MFU on a CPU, has no series.
"""

from __future__ import annotations

from mm1.monitoring.metric import Metric, by_name

RUN_LABELS = ("run", "task", "stage", "recipe")
"""Labels of every metric of a training."""

QUEUED, PENDING, STARTING, RUNNING, PAUSED, STUCK, ENDED = STATES = (
    "queued",
    "pending",
    "starting",
    "running",
    "paused",
    "stuck",
    "ended",
)
STATE_MEANINGS = {
    QUEUED: "the JobSet waits for quota",
    PENDING: "pods of ranks wait for nodes or images",
    STARTING: "the ranks load code, model and data; no step has ended yet",
    RUNNING: "steps end",
    PAUSED: "the trainer has announced a pause, such as a validation, which has not exceeded its limit",
    STUCK: "no step has ended for so long that the ranks should have been ended",
    ENDED: "the training has ended; see the outcome",
}

TRAINING = by_name(
    (
        Metric(name="mm1_training_state", help="1 for the state of the training, 0 for the other states.", labels=("state",)),
        Metric(name="mm1_training_step", help="Last step.", field="step"),
        Metric(name="mm1_training_steps", help="Steps of the whole run.", field="steps"),
        Metric(
            name="mm1_training_remaining_seconds",
            help="Estimated time to the last step.",
            unit="seconds",
            field="eta_s",
        ),
        Metric(name="mm1_training_step_seconds", help="Mean time of recent steps.", unit="seconds", field="step_s"),
        Metric(
            name="mm1_training_step_age_seconds",
            help="Time since the trainer last reported a step, or the start or the end of a pause.",
            unit="seconds",
        ),
        Metric(name="mm1_training_loss", help="Mean loss per predicted token of the last step.", field="loss"),
        Metric(
            name="mm1_training_source_loss",
            help="The same of each source in the batch.",
            labels=("source",),
            field="losses",
        ),
        Metric(
            name="mm1_training_validation_loss",
            help="Mean loss per predicted token of held-out samples of each source, at the last validation.",
            labels=("source",),
            field="validation",
        ),
        Metric(
            name="mm1_training_gradient_norm",
            help="Norm of the whole gradient of the last step, before clipping.",
            field="grad_norm",
        ),
        Metric(
            name="mm1_training_tokens_per_second",
            help="Tokens per second of recent steps, on all ranks, padding excluded.",
            unit="tokens/s",
            field="tokens_per_s",
        ),
        Metric(
            name="mm1_training_source_tokens",
            help="Tokens of each source since the beginning of the run, padding excluded.",
            unit="tokens",
            labels=("source",),
            field="source_tokens",
        ),
        Metric(
            name="mm1_training_mfu_ratio",
            help="Model FLOPs utilization of recent steps; without a series if the peak of the device is unknown.",
            unit="0 to 1",
            field="mfu",
        ),
        Metric(
            name="mm1_training_goodput_ratio",
            help="Share of the wall time since the first start in which steps ran that count.",
            unit="0 to 1",
            field="goodput",
        ),
        Metric(
            name="mm1_training_phase_ratio",
            help="Share of the time of recent steps by phase; `data` is the wait for data.",
            unit="0 to 1",
            labels=("phase",),
            field="phases",
        ),
        Metric(
            name="mm1_training_straggler_ratio",
            help="How much longer the slowest rank takes for its own work than the median rank.",
            unit="0.1 = 10 %",
            field="straggler.slower",
        ),
        Metric(name="mm1_training_memory_bytes", help="Peak memory of rank 0.", unit="bytes", field="memory_bytes"),
        Metric(
            name="mm1_training_skipped_batches",
            help="Batches that the run has skipped because it diverged on them.",
            unit="batches",
            field="skipped",
        ),
        Metric(
            name="mm1_training_spikes",
            help="Steps that did not update the weights because of a spike of the loss or of the gradient.",
            unit="steps",
            field="spikes",
        ),
        Metric(
            name="mm1_training_checkpoint_step",
            help="Step of the last durable checkpoint; 0 = none yet.",
            field="checkpoint.step",
        ),
        Metric(
            name="mm1_training_checkpoint_age_seconds",
            help="Time since the state in the last durable checkpoint, or since the ranks started if that was later: "
            "the work that a failure would lose.",
            unit="seconds",
            field="checkpoint.age_s",
            grows=True,
        ),
        Metric(
            name="mm1_training_store_failures",
            help="Requests of rank 0 to the store that have failed since the ranks started, also if a retry succeeded.",
            unit="requests",
            field="store_failures",
        ),
        Metric(
            name="mm1_training_disk_free_ratio",
            help="Free share of the disk with the scratch folder of rank 0.",
            unit="0 to 1",
            field="disk_free",
        ),
        Metric(
            name="mm1_training_restarts",
            kind="counter",
            help="Restarts of all ranks by the JobSet, by outcome class of the rank that failed first.",
            labels=("reason",),
        ),
        Metric(
            name="mm1_training_relaunches",
            kind="counter",
            help="New launches of the ranks after a failure, by its outcome class.",
            labels=("reason",),
        ),
        Metric(
            name="mm1_training_outcome",
            help="1 for the outcome class with which the training has ended.",
            labels=("outcome",),
        ),
        Metric(
            name="mm1_training_unread_lines",
            kind="counter",
            help="Progress lines that could not be read; the log has the first error.",
            unit="lines",
        ),
    )
)
