r"""The lease of a JobSet: its ranks continue without a supervisor for a limited time only.

::

    Job, activeDeadlineSeconds = lease --supervisor, ten times per lease--> activeDeadlineSeconds = time since its start + lease
        \-- nobody extends it: Kubernetes ends the Job (the ranks save a checkpoint) and the JobSet fails, without a restart

A supervisor deletes its JobSet if no other one follows (:mod:`mm1_components.ranks.jobset.successor`). The lease covers the
cases in which it cannot: it was killed, it has lost its permissions, or the workflow ended while no supervisor was running. It
is a field of the Job, so it needs neither the store nor the ranks, which may hang.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

from mm1.errors import Ending, Outcome, Preempted
from mm1_components.kube.pods import Object
from mm1_components.ranks.jobset.api import Cluster
from mm1_components.ranks.jobset.names import DEADLINE_EXCEEDED
from mm1_components.ranks.launcher import Launcher

RENEWALS = 10
"""Renewals per lease."""


class Lease:
    """The lease of one JobSet."""

    def __init__(self, cluster: Cluster, launcher: Launcher, jobset: str) -> None:
        self.cluster, self.launcher, self.jobset = cluster, launcher, jobset
        self.renewed = float("-inf")

    def renew(self) -> None:
        """Extend the deadline of the running Jobs, if it is time. A Job that starts later starts with the whole lease.

        Raises:
            ConfigurationError: the supervisor may not list or patch Jobs.
            NetworkError: the API server stays unreachable.
        """
        now = time.monotonic()
        if now - self.renewed < self.launcher.lease_s / RENEWALS:
            return
        self.renewed = now
        for job in self.cluster.jobs(self.jobset):
            elapsed = _elapsed(job)
            if elapsed is None or _failure(job):
                continue
            deadline = self.launcher.deadline_s(elapsed)
            if deadline > (job["spec"].get("activeDeadlineSeconds") or 0):
                self.cluster.set_deadline(job["metadata"]["name"], deadline)

    def ending(self) -> Ending | None:
        """Return how the ranks ended if it was because of the lease; None if it was not.

        Raises:
            Preempted: they reached the time limit of the profile.
        """
        late = [job for job in self.cluster.jobs(self.jobset) if _failure(job).get("reason") == DEADLINE_EXCEEDED]
        limit_s = self.launcher.timeout_s
        if limit_s is not None and any(job["spec"]["activeDeadlineSeconds"] >= limit_s for job in late):
            raise Preempted(f"the ranks reached the time limit of {limit_s} s (run_seconds of the profile), and were stopped")
        message = f"the ranks were without a supervisor for {self.launcher.lease_s} s (lease_seconds of the profile)"
        return Ending(outcome=Outcome.PREEMPTED, message=message) if late else None


def _elapsed(job: Object) -> float | None:
    """Return the seconds since the start of a Job; None if it has not started, or is suspended."""
    start = (job.get("status") or {}).get("startTime")
    return (datetime.now(UTC) - datetime.fromisoformat(start)).total_seconds() if start else None


def _failure(job: Object) -> Object:
    """Return the condition of a failed Job; empty if it has not failed."""
    conditions = (job.get("status") or {}).get("conditions") or []
    return next((item for item in conditions if item["type"] == "Failed" and item["status"] == "True"), {})
