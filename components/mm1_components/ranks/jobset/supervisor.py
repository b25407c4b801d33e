r"""The supervisor of a training run on a cluster: it creates or adopts the JobSet, follows it, and handles its outcome.

::

    job --create or adopt--> JobSet --poll--> Completed -> result from the store
                               |    \--log of node 0--> this step's log and progress
                               |-- Failed, out of memory    -> again with half the micro-batch (the global batch stays)
                               |-- Failed, hardware         -> again, away from that node
                               |-- Failed, diverged         -> again, if the ranks have listed a batch to skip
                               |-- Failed, preempted        -> again, not counted
                               \-- Failed, anything else    -> the typed error, hence the exit code
    SIGTERM: the workflow is being stopped -> the JobSet is deleted; only this pod -> the next supervisor adopts the JobSet
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from mm1.checkpoint.resume import skipped_batches
from mm1.errors import ConfigurationError, Ending, NetworkError, Outcome, Preempted, cause
from mm1.train.config import TrainJob, TrainResult
from mm1_components.ranks.jobset.api import Cluster
from mm1_components.ranks.jobset.jobset import Gang, label_value, manifest
from mm1_components.ranks.jobset.logs import LogFollower
from mm1_components.ranks.jobset.names import ATTEMPT_ANNOTATION, AVOID_ANNOTATION, KEY_ANNOTATION, MICRO_BATCH_ANNOTATION
from mm1_components.ranks.jobset.pods import REMEDY, Object, Waiting, ending_of, index_of, phase_of, waiting_of
from mm1_components.ranks.launcher import Launcher, Layout, result_key
from mm1_components.ranks.stuck import OUTER_PATIENCE, StuckWatch
from mm1_components.wrapper.declaration import Context

log = logging.getLogger("mm1")

POLL_S = 1.0
GONE_S = 90.0
QUIET_S = 10.0
"""Seconds after which a suspended JobSet without a reason from Kueue is reported."""


def supervise(job: TrainJob, layout: Layout, context: Context, launcher: Launcher, take: Callable[[str], None]) -> TrainResult:
    """Run a training job on a cluster to completion.

    Args:
        job: the training job.
        layout: nodes, processes per node, pool.
        context: context of the step.
        launcher: how ranks are started on this cluster.
        take: callback for each line of node 0's log.

    Raises:
        Mm1Error: the error class of the ranks; Preempted after SIGTERM.
    """
    return Supervisor(job, layout, context, launcher, take, Cluster.of_this_pod()).run()


class Supervisor:
    """A training job on a cluster, with as many JobSets as necessary."""

    def __init__(
        self,
        job: TrainJob,
        layout: Layout,
        context: Context,
        launcher: Launcher,
        take: Callable[[str], None],
        cluster: Cluster,
        *,
        poll_s: float = POLL_S,
    ) -> None:
        """Set the job; arguments are those of :func:`supervise`, and ``poll_s`` is the polling interval in seconds."""
        self.job, self.layout, self.context, self.launcher = job, layout, context, launcher
        self.take, self.cluster, self.poll_s = take, cluster, poll_s
        self.attempt = 0
        self.avoid: tuple[str, ...] = ()
        self.relaunches = 0
        self.watch = StuckWatch(job.config, OUTER_PATIENCE)
        self.skipped = 0
        """Batches to skip that the work listed when its ranks were launched."""
        self.history: list[str] = []
        self.reported = ""
        self.suspended_since: float | None = None
        self.stuck: dict[str, tuple[float, Waiting]] = {}
        """Uid of a pod that cannot start without a fix -> time since then, and the first reason."""

    def run(self) -> TrainResult:
        """Launch until there is a result, or an error that another launch cannot fix.

        Raises:
            Mm1Error: the error class of the ranks; Preempted after SIGTERM.
        """
        try:
            self._find_attempt()
            while True:
                ending = self._attempt()
                if ending is None:
                    return self._result()
                self._after(ending)
        except Preempted:
            self._stopped()
            raise
        finally:
            if self.history:
                self.context.note(relaunched=self.history)

    # -- one JobSet -------------------------------------------------------------------------------------------

    def _gang(self, owner: Object | None = None) -> Gang:
        return Gang(
            run=self.context.run,
            task=self.context.task,
            key=self.job.key,
            attempt=self.attempt,
            avoid=self.avoid,
            owner=owner,
        )

    def _find_attempt(self) -> None:
        """Continue with the newest JobSet of an earlier supervisor for this work, or after it if it failed."""
        jobsets = self.cluster.jobsets(label_value(self.context.run), label_value(self.context.task))
        same_work = [item for item in jobsets if item["metadata"]["annotations"].get(KEY_ANNOTATION) == self.job.key]
        if not same_work:
            return
        newest = max(same_work, key=lambda item: int(item["metadata"]["annotations"][ATTEMPT_ANNOTATION]))
        annotations = newest["metadata"]["annotations"]
        self.attempt = int(annotations[ATTEMPT_ANNOTATION])
        self.avoid = tuple(annotations.get(AVOID_ANNOTATION, "").split())
        self.job = self.job.with_micro_batch(int(annotations[MICRO_BATCH_ANNOTATION]))
        if newest["metadata"].get("deletionTimestamp") or (newest.get("status") or {}).get("terminalState") == "Failed":
            self.cluster.delete_jobset(newest["metadata"]["name"])
            self.attempt += 1

    def _attempt(self) -> Ending | None:
        """Create or adopt the JobSet of this attempt and follow it to completion; None = completed."""
        gang = self._gang(self._owner())
        self.skipped = len(skipped_batches(self.context.store, self.job.key))
        body = manifest(gang, self.job, self.layout, self.launcher)
        self.watch.reset()
        created = self.cluster.create_jobset(body)
        pool = self.layout.pool or self.launcher.pool
        log.info("JobSet %s %s: %d node(s) of pool %s", gang.name, "created" if created else "adopted", self.layout.nodes, pool)
        return self._follow(gang.name)

    def _owner(self) -> Object | None:
        workflow = self.cluster.workflow(self.context.run)
        if workflow is None:
            return None  # started manually or by another engine
        return {
            "apiVersion": workflow["apiVersion"],
            "kind": workflow["kind"],
            "name": workflow["metadata"]["name"],
            "uid": workflow["metadata"]["uid"],
        }

    def _follow(self, name: str) -> Ending | None:
        endings: dict[str, Ending] = {}
        restarts = 0
        with LogFollower(self.cluster) as follower:
            while True:
                jobset = self.cluster.jobset(name)
                if jobset is None or jobset["metadata"].get("deletionTimestamp"):
                    return Ending(outcome=Outcome.NETWORK, message=f"JobSet {name} was deleted")
                status = jobset.get("status") or {}
                pods = self.cluster.pods(name)
                if int(status.get("restarts") or 0) > restarts:
                    restarts = int(status["restarts"])
                    self._note_restart(name, restarts, endings)
                    endings = {}
                endings |= {pod["metadata"]["uid"]: ending for pod in pods if (ending := ending_of(pod))}
                follower.look_at(_first_node(pods))
                for line in follower.lines():
                    self.watch.take(line)
                    self.take(line)
                state = status.get("terminalState")
                if state:
                    for line in follower.rest():
                        self.take(line)
                    if state == "Completed":
                        return None
                    return _first(endings) or Ending(outcome=Outcome.NETWORK, message=_failure(status))
                self._check_waiting(jobset, pods)
                self._check_stuck(name)
                time.sleep(self.poll_s)

    def _note_restart(self, name: str, restarts: int, endings: dict[str, Ending]) -> None:
        first = _first(endings)
        why = f"{first.where}: {first.outcome.label}: {first.message}" if first else "a pod was lost"
        self.history.append(f"restart {restarts}: {why}")
        self.watch.reset()
        log.warning("JobSet %s restarted (%d): %s", name, restarts, why)

    def _check_stuck(self, name: str) -> None:
        """Delete a JobSet in which no step ends any more; the engine's retry starts it again.

        Raises:
            NetworkError: it is stuck.
        """
        if reason := self.watch.reason():
            self.cluster.delete_jobset(name)
            raise NetworkError(f"{reason}; JobSet {name} is deleted")

    # -- while it is pending ----------------------------------------------------------------------------------

    def _check_waiting(self, jobset: Object, pods: list[Object]) -> None:
        """Log each reason for waiting once, and fail if a pod cannot start without a fix.

        Raises:
            ConfigurationError: a pod that cannot start without a fix has been pending for too long.
        """
        reason = self._unmet_quota(jobset)
        waiting = {pod["metadata"]["uid"]: (index_of(pod), why) for pod in pods if (why := waiting_of(pod))}
        now = time.monotonic()
        # The kubelet alternates between ErrImagePull and ImagePullBackOff; only ErrImagePull has the cause.
        self.stuck = {uid: self.stuck.get(uid, (now, why)) for uid, (_, why) in waiting.items() if why.needs_fix}
        for uid, (index, why) in waiting.items():
            since, first = self.stuck.get(uid, (now, why))
            reason = f"node {index} is pending: {first}"
            if uid in self.stuck and now - since >= self.launcher.pull_timeout_s:
                self.cluster.delete_jobset(jobset["metadata"]["name"])
                raise ConfigurationError(f"{reason}; {REMEDY}")
        if reason and reason != self.reported:
            log.info("%s", reason)
        self.reported = reason

    def _unmet_quota(self, jobset: Object) -> str:
        """Return what a suspended JobSet waits for; empty otherwise, and while Kueue may still give a reason."""
        if not jobset["spec"].get("suspend"):
            self.suspended_since = None
            return ""
        self.suspended_since = self.suspended_since or time.monotonic()
        reason = self.cluster.pending_reason(jobset["metadata"]["uid"])
        if not reason and time.monotonic() - self.suspended_since > QUIET_S:
            reason = "Kueue gives no reason: check that it is running and manages JobSets of this namespace"
        return f"waiting for quota in queue {self.launcher.queue}: {reason}" if reason else ""

    # -- after it ended ---------------------------------------------------------------------------------------

    def _result(self) -> TrainResult:
        key = result_key(self.job.key)
        result = self.context.store.read_json(key)
        if result is None:
            raise NetworkError(f"the JobSet completed, but {self.context.store.uri} has no {key}")
        self.context.store.delete(key)
        return TrainResult.model_validate(result)

    def _after(self, ending: Ending) -> None:
        """Prepare the next launch, or raise the error of the run."""
        message = str(ending.error)
        may_relaunch = self.relaunches < self.launcher.relaunches
        if ending.outcome is Outcome.OUT_OF_MEMORY and may_relaunch and (micro := self.job.config.train.micro_batch) > 1:
            self.relaunches += 1
            self.job = self.job.with_micro_batch(micro // 2)
            self._relaunch(f"out of memory, micro_batch {micro} -> {micro // 2}: {message}")
        elif ending.outcome is Outcome.HARDWARE and may_relaunch and ending.host:
            self.relaunches += 1
            self.avoid += (ending.host,)
            self._relaunch(f"hardware fault, avoiding {ending.host}: {message}")
        elif ending.outcome is Outcome.DIVERGED and len(skipped_batches(self.context.store, self.job.key)) > self.skipped:
            self._relaunch(f"diverged: {message}")
        elif ending.outcome is Outcome.PREEMPTED:
            self._relaunch(f"preempted: {message}")
        else:
            raise ending.error

    def _relaunch(self, why: str) -> None:
        self.history.append(f"launch {self.attempt + 1}: {why}")
        log.warning("relaunching: %s", why)
        self.cluster.delete_jobset(self._gang().name)
        self.attempt += 1

    def _stopped(self) -> None:
        """Handle SIGTERM: delete the JobSet if the whole run is being stopped; otherwise leave it to the next supervisor."""
        workflow = self.cluster.workflow(self.context.run)
        if workflow and not workflow["spec"].get("shutdown") and not workflow["metadata"].get("deletionTimestamp"):
            log.info("only this pod is being stopped: the ranks continue, and the next supervisor adopts them")
            return
        name = self._gang().name
        log.info("the run is being stopped: deleting JobSet %s", name)
        self.cluster.delete_jobset(name)
        started = time.monotonic()
        while self.cluster.jobset(name) is not None and time.monotonic() - started < GONE_S:
            time.sleep(self.poll_s)


def _first(endings: dict[str, Ending]) -> Ending | None:
    """Return the ending that caused the others; among equals, the one of the lowest node."""
    return cause(sorted(endings.values(), key=lambda ending: (len(ending.where), ending.where)))


def _first_node(pods: list[Object]) -> str | None:
    """Return the name of node 0's newest started pod; after a restart, the previous pod may still be terminating."""
    started = [pod["metadata"] for pod in pods if index_of(pod) == 0 and phase_of(pod) != "Pending"]
    return str(max(started, key=lambda metadata: metadata["creationTimestamp"])["name"]) if started else None


def _failure(status: Object) -> str:
    messages = [str(item.get("message", "")) for item in status.get("conditions") or [] if item.get("type") == "Failed"]
    return "; ".join(messages) or "the JobSet failed without giving a reason"
