r"""The supervisor of a training run on a cluster: it creates or adopts the JobSet, follows it, and handles its outcome.

::

    job --create or adopt--> JobSet --poll--> Completed -> result from the store
                               |    \--log of node 0--> this step's log and progress
                               |-- Failed, out of memory    -> again with half the micro-batch (the global batch stays)
                               |-- Failed, hardware         -> again, away from that node
                               |-- Failed, diverged         -> again, if the ranks have listed a batch to skip
                               |-- Failed, preempted        -> again, not counted
                               |-- Failed, budget           -> the error: nobody starts it again without a new budget
                               \-- Failed, anything else    -> the typed error, hence the exit code

At any other end of the supervisor, whatever the cause, the JobSet is deleted, or left to the next supervisor if one follows
(:mod:`mm1_components.ranks.jobset.successor`). While it runs, it renews the JobSet's lease
(:mod:`mm1_components.ranks.jobset.lease`); without a supervisor, the ranks end when the lease ends.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from mm1.checkpoint.resume import skipped_batches
from mm1.errors import BY_OUTCOME, SAVED, ConfigurationError, Ending, NetworkError, Outcome, Preempted, cause
from mm1.monitoring.training import PENDING, QUEUED
from mm1.train.config import TrainJob, TrainResult
from mm1_components.kube.pods import Object, Waiting, phase_of, waiting_of
from mm1_components.ranks.jobset.api import Cluster
from mm1_components.ranks.jobset.jobset import Gang, label_value, manifest
from mm1_components.ranks.jobset.lease import Lease
from mm1_components.ranks.jobset.logs import LogFollower
from mm1_components.ranks.jobset.names import ATTEMPT_ANNOTATION, AVOID_ANNOTATION, KEY_ANNOTATION, MICRO_BATCH_ANNOTATION
from mm1_components.ranks.jobset.pods import REMEDY, ending_of, index_of
from mm1_components.ranks.jobset.successor import why_nobody_follows, workflow_of
from mm1_components.ranks.launcher import Launcher, Layout, result_key
from mm1_components.ranks.stuck import OUTER_PATIENCE, StuckWatch
from mm1_components.ranks.training_metrics import TrainingMetrics
from mm1_components.ranks.waits import API_AWAY_AT_THE_END_S, GONE_S, POLL_S, QUIET_S
from mm1_components.wrapper.declaration import Context

log = logging.getLogger("mm1")


def supervise(
    job: TrainJob,
    layout: Layout,
    context: Context,
    launcher: Launcher,
    take: Callable[[str], None],
    metrics: TrainingMetrics,
) -> TrainResult:
    """Run a training job on a cluster to completion.

    Args:
        job: the training job.
        layout: nodes, processes per node, pool.
        context: context of the step.
        launcher: how ranks are started on this cluster.
        take: callback for each line of node 0's log.
        metrics: are told about waits, restarts and launches.

    Raises:
        Mm1Error: the error class of the ranks; Preempted after SIGTERM.
    """
    return Supervisor(job, layout, context, launcher, take, Cluster.of_this_pod(), metrics=metrics).run()


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
        metrics: TrainingMetrics | None = None,
        poll_s: float = POLL_S,
    ) -> None:
        """Set the job; arguments are those of :func:`supervise`, and ``poll_s`` is the polling interval in seconds."""
        self.job, self.layout, self.context, self.launcher = job, layout, context, launcher
        self.metrics = metrics or TrainingMetrics(context.run, context.task, job.config)
        self.take, self.cluster, self.poll_s = take, cluster, poll_s
        self.attempt = 0
        self.avoid: tuple[str, ...] = ()
        self.relaunches = 0
        self.watch = StuckWatch(job.config, OUTER_PATIENCE)
        self.skipped = 0
        """Batches to skip that the work listed when its ranks were launched."""
        self.history: list[str] = []
        self.about: Object | None = None
        """What Events are about: the Workflow, or this pod if it was started manually; None if neither may be read."""
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
        except BaseException as error:
            ending = Ending.of(error)
            self._leave(ending.outcome)
            with suppress(Preempted):  # SIGTERM must not hide the cause of the end
                self._tell(_reason(ending.outcome), ending.message, is_warning=ending.outcome not in SAVED)
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

    def _jobsets(self) -> list[Object]:
        """Return the JobSets for this work, also those of earlier supervisors."""
        jobsets = self.cluster.jobsets(label_value(self.context.run), label_value(self.context.task))
        return [item for item in jobsets if item["metadata"]["annotations"].get(KEY_ANNOTATION) == self.job.key]

    def _find_attempt(self) -> None:
        """Continue with the newest JobSet of an earlier supervisor for this work, or after it if it failed."""
        same_work = self._jobsets()
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
        self.metrics.waiting(PENDING)
        created = self.cluster.create_jobset(body)
        pool = self.layout.pool or self.launcher.pool
        log.info("JobSet %s %s: %d node(s) of pool %s", gang.name, "created" if created else "adopted", self.layout.nodes, pool)
        return self._follow(gang.name)

    def _owner(self) -> Object | None:
        pod = self._pod()
        workflow = self._workflow(pod)
        owner = _reference(workflow) if workflow else None  # None: started manually
        self.about = owner or (_reference({"apiVersion": "v1", "kind": "Pod"} | pod) if pod else None)
        return owner

    def _pod(self) -> Object | None:
        """Return the pod of this supervisor, if it may be read."""
        try:
            return self.cluster.own_pod()
        except ConfigurationError as error:
            log.debug("%s", error)
            return None

    def _workflow(self, pod: Object | None) -> Object | None:
        return self.cluster.workflow(workflow_of(pod) or self.context.run)

    def _follow(self, name: str) -> Ending | None:
        endings: dict[str, Ending] = {}
        restarts = 0
        lease = Lease(self.cluster, self.launcher, name)
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
                    return lease.ending() or _first(endings) or Ending(outcome=Outcome.NETWORK, message=_failure(status))
                lease.renew()
                self._check_waiting(jobset, pods)
                self._check_stuck(name)
                time.sleep(self.poll_s)

    def _note_restart(self, name: str, restarts: int, endings: dict[str, Ending]) -> None:
        first = _first(endings)
        why = f"{first.where}: {first.outcome.label}: {first.message}" if first else "a pod was lost"
        self.history.append(f"restart {restarts}: {why}")
        self.metrics.restarted(first.outcome if first else Outcome.NETWORK)
        self.watch.reset()
        self._tell("Restarted", f"all ranks start again: {why}")
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
        is_pending = waiting or len(pods) < self.layout.nodes
        self.metrics.waiting(QUEUED if jobset["spec"].get("suspend") else PENDING if is_pending else "")
        now = time.monotonic()
        # The kubelet alternates between ErrImagePull and ImagePullBackOff; only ErrImagePull has the cause.
        self.stuck = {uid: self.stuck.get(uid, (now, why)) for uid, (_, why) in waiting.items() if why.needs_fix}
        for uid, (index, why) in waiting.items():
            since, first = self.stuck.get(uid, (now, why))
            reason = f"node {index} is pending: {first}"
            if uid in self.stuck and now - since >= self.launcher.pull_timeout_s:
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
        if (
            ending.outcome is Outcome.NETWORK and self.reported
        ):  # nodes that were pending explain lost connections of the others
            ending = replace(ending, message=f"{ending.message}; {self.reported}")
        message = str(ending.error)
        may_relaunch = self.relaunches < self.launcher.relaunches
        if ending.outcome is Outcome.OUT_OF_MEMORY and may_relaunch and (micro := self.job.config.train.micro_batch) > 1:
            self.relaunches += 1
            self.job = self.job.with_micro_batch(micro // 2)
            self._relaunch(ending.outcome, f"out of memory, micro_batch {micro} -> {micro // 2}: {message}")
        elif ending.outcome is Outcome.HARDWARE and may_relaunch and ending.host:
            self.relaunches += 1
            self.avoid += (ending.host,)
            self._relaunch(ending.outcome, f"hardware fault, avoiding {ending.host}: {message}")
        elif ending.outcome is Outcome.DIVERGED and len(skipped_batches(self.context.store, self.job.key)) > self.skipped:
            self._relaunch(ending.outcome, f"diverged: {message}")
        elif ending.outcome is Outcome.PREEMPTED:
            self._relaunch(ending.outcome, f"preempted: {message}")
        else:
            raise ending.error

    def _relaunch(self, reason: Outcome, why: str) -> None:
        self.metrics.relaunched(reason)
        self.history.append(f"launch {self.attempt + 1}: {why}")
        self._tell("Relaunched", f"all ranks are launched again: {why}")
        log.warning("relaunching: %s", why)
        self.cluster.delete_jobset(self._gang().name)
        self.attempt += 1

    def _tell(self, reason: str, message: str, *, is_warning: bool = True) -> None:
        """Write an Event about the workflow; arguments are those of :meth:`Cluster.event`."""
        if self.about:
            self.cluster.event(self.about, reason, f"{self.context.task}: {message}", is_warning=is_warning)

    def _leave(self, outcome: Outcome) -> None:
        """Delete the running JobSet, unless another supervisor follows; an error here must not hide the cause of the end.

        Args:
            outcome: how this supervisor ends.
        """
        self.cluster.patience_s = min(self.cluster.patience_s, API_AWAY_AT_THE_END_S)
        try:
            try:
                self._clean_up(outcome)
            except Preempted:  # SIGTERM during the clean-up; a second one would end the process
                self._clean_up(outcome)
        except Exception as error:  # noqa: BLE001 - any error, because the original one is being raised
            log.error("a JobSet may be left: %s; without a supervisor it ends after %d s", error, self.launcher.lease_s)

    def _clean_up(self, outcome: Outcome) -> None:
        # Kubernetes deletes a finished JobSet after a while; its pods' logs may help until then.
        running = [item for item in self._jobsets() if not (item.get("status") or {}).get("terminalState")]
        names = [item["metadata"]["name"] for item in running if not item["metadata"].get("deletionTimestamp")]
        if not names:
            return
        if reason := self._why_nobody_follows(outcome):
            log.info("%s: deleting JobSet %s", reason, ", ".join(names))
            for name in names:
                self._delete(name)
        else:
            log.info("only this supervisor ends: the ranks continue, and the next one adopts JobSet %s", ", ".join(names))

    def _why_nobody_follows(self, outcome: Outcome) -> str:
        pod = self._pod()
        try:
            workflow = self._workflow(pod)
        except ConfigurationError as error:
            return f"the workflow cannot be read ({error})"
        return why_nobody_follows(outcome, workflow, pod, self.launcher.retries)

    def _delete(self, name: str) -> None:
        self.cluster.delete_jobset(name)
        started = time.monotonic()
        while self.cluster.jobset(name) is not None and time.monotonic() - started < GONE_S:
            time.sleep(self.poll_s)


def _reference(item: Object) -> Object:
    """Return what names an object to Kubernetes."""
    metadata = item["metadata"]
    return {"apiVersion": item["apiVersion"], "kind": item["kind"], "name": metadata["name"], "uid": metadata["uid"]}


def _reason(outcome: Outcome) -> str:
    """Return the reason of an Event, such as ``OutOfMemory``: the name of the error."""
    return BY_OUTCOME[outcome].__name__.removesuffix("Error") if outcome in BY_OUTCOME else "Unhandled"


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
