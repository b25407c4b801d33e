"""The supervisor's view of a namespace: JobSets, pods and their logs, the workflow, Kueue's workloads.

The service account needs the permissions of ``mm1-supervisor`` in the chart.
"""

from __future__ import annotations

from collections.abc import Iterator

from kubernetes import client

from mm1.errors import ConfigurationError
from mm1_components.kube.api import REQUEST_S, Namespace
from mm1_components.kube.pods import Object, has_ended
from mm1_components.ranks.jobset import pods
from mm1_components.ranks.jobset.names import (
    ARGO,
    BATCH,
    JOB_UID_LABEL,
    JOBSET,
    JOBSET_GROUP,
    JOBSET_NAME_LABEL,
    KUEUE,
    MAIN_CONTAINER,
    RUN_LABEL,
    TASK_LABEL,
)
from mm1_components.ranks.waits import LOG_READ_S

NO_LOG = (400, 404)
"""Status codes for the log of a pod whose container has not started, or that does not exist."""


class Cluster(Namespace):
    """A namespace of a cluster, as a supervisor uses it."""

    role = "mm1-supervisor"
    needed_by = "--launcher; without it, the ranks run on this machine"

    # -- JobSets ----------------------------------------------------------------------------------------------

    def create_jobset(self, body: Object) -> Object | None:
        """Create a JobSet; None if it exists already."""
        name = body["metadata"]["name"]
        try:
            created = self.ask("POST", self.path(JOBSET, "jobsets"), f"creating JobSet {name}", body=body)
        except FileExistsError:
            return None
        if created is None:
            raise ConfigurationError(f"the cluster has no JobSet API: install the JobSet controller ({JOBSET_GROUP})")
        return created

    def jobset(self, name: str) -> Object | None:
        """Return a JobSet by name."""
        return self.ask("GET", self.path(JOBSET, "jobsets", name), f"JobSet {name}")

    def jobsets(self, run: str, task: str) -> list[Object]:
        """Return the JobSets of a task."""
        return self.objects(JOBSET, "jobsets", f"{RUN_LABEL}={run},{TASK_LABEL}={task}", "listing JobSets")

    def delete_jobset(self, name: str) -> None:
        """Delete a JobSet with its pods, if it exists."""
        path = self.path(JOBSET, "jobsets", name)
        self.ask("DELETE", path, f"deleting JobSet {name}", body={"propagationPolicy": "Foreground"})

    # -- related objects --------------------------------------------------------------------------------------

    def jobs(self, jobset: str) -> list[Object]:
        """Return the Jobs of a JobSet."""
        return self.objects(BATCH, "jobs", f"{JOBSET_NAME_LABEL}={jobset}", f"Jobs of {jobset}")

    def set_deadline(self, job: str, seconds: int) -> None:
        """Set the active deadline of a Job, in seconds since its start, if the Job exists."""
        body = {"spec": {"activeDeadlineSeconds": seconds}}
        self.ask("PATCH", self.path(BATCH, "jobs", job), f"extending the deadline of Job {job}", body=body)

    def own_pod(self) -> Object | None:
        """Return the pod of this process; None if its name is unknown."""
        return self.ask("GET", self.path("v1", "pods", self.pod), f"pod {self.pod}") if self.pod else None

    def pods(self, jobset: str) -> list[Object]:
        """Return the pods of a JobSet."""
        return self.objects("v1", "pods", f"{JOBSET_NAME_LABEL}={jobset}", f"pods of {jobset}")

    def has_ended(self, pod: str) -> bool:
        """Whether a pod has ended or does not exist."""
        answer = self.ask("GET", self.path("v1", "pods", pod), f"pod {pod}")
        return answer is None or has_ended(answer)

    def follow_log(self, pod: str, since: str | None) -> Iterator[str]:
        """Yield the lines of a pod's log with timestamps until the stream ends; none if the pod has not started or is gone.

        Raises:
            HTTPError, ApiException, OSError: the stream broke.
        """
        query = [("container", MAIN_CONTAINER), ("follow", "true"), ("timestamps", "true")]
        query += [("sinceTime", since)] if since else []
        path = self.path("v1", "pods", pod) + "/log"
        try:
            response = self.send("GET", path, query, timeout_s=(REQUEST_S, LOG_READ_S), stream=True)
        except client.ApiException as error:
            if error.status in NO_LOG:
                return
            raise
        try:
            rest = b""
            for chunk in response.stream(8192, decode_content=False):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
            if rest:
                yield rest.decode(errors="replace")
        finally:
            response.release_conn()

    def workflow(self, name: str) -> Object | None:
        """Return an Argo workflow by name."""
        return self.ask("GET", self.path(ARGO, "workflows", name), f"workflow {name}")

    def pending_reason(self, uid: str) -> str:
        """Return why Kueue has not admitted the JobSet with this uid yet; empty if it gives no reason."""
        for version in KUEUE:
            try:
                workloads = self.objects(version, "workloads", f"{JOB_UID_LABEL}={uid}", "Kueue's workloads")
            except ConfigurationError as error:
                return str(error)
            if workloads:
                return next((reason for item in workloads if (reason := pods.unmet_quota(item))), "")
        return ""
