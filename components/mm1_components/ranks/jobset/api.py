"""The supervisor's Kubernetes client: JobSets, pods and their logs, the workflow, Kueue's workloads.

Objects are plain dicts. Requests are retried for a limited time while the API server is unreachable or rejects the token, so
neither a restart of the control plane nor a rotation of tokens does any harm. A missing permission is an error at once. The
service account needs the permissions of ``mm1-supervisor`` in the chart.
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from mm1.errors import ConfigurationError, NetworkError
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
from mm1_components.ranks.jobset.pods import Object
from mm1_components.ranks.waits import API_AWAY_S, FIRST_PAUSE_S, LOG_READ_S, LONGEST_PAUSE_S, REQUEST_S

log = logging.getLogger("mm1")

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
INVALID = (400, 403, 422)
UNAUTHORIZED = 401
MERGE_PATCH = "application/merge-patch+json"
NO_LOG = (400, 404)
"""Status codes for the log of a pod whose container has not started, or that does not exist."""
Query = Sequence[tuple[str, str]]


class Cluster:
    """A namespace of a cluster."""

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        *,
        patience_s: float = API_AWAY_S,
        pause: Callable[[float], None] = time.sleep,
        pod: str = "",
    ) -> None:
        """Set the client and the namespace.

        Args:
            api: configured client.
            namespace: namespace of all objects.
            patience_s: seconds for which the API server may be unreachable.
            pause: sleeps for the given seconds before a retry.
            pod: name of the pod of this process; empty if unknown.
        """
        self.api, self.namespace, self.pod = api, namespace, pod
        self.patience_s, self.pause = patience_s, pause

    @classmethod
    def of_this_pod(cls) -> Cluster:
        """Return the namespace of this pod, with the permissions of its service account.

        Raises:
            ConfigurationError: this process does not run in a pod.
        """
        settings = client.Configuration()
        settings.retries = False  # retries are handled in this class
        try:
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException as error:
            raise ConfigurationError(
                f"--launcher requires a pod of a cluster ({error}); without it, the ranks run on this machine"
            ) from None
        # the host name of a pod is its name, cut off after 63 characters
        return cls(client.ApiClient(settings), NAMESPACE_FILE.read_text().strip(), pod=socket.gethostname())

    # -- JobSets ----------------------------------------------------------------------------------------------

    def create_jobset(self, body: Object) -> Object | None:
        """Create a JobSet; None if it exists already."""
        name = body["metadata"]["name"]
        try:
            created = self._ask("POST", self._path(JOBSET, "jobsets"), f"creating JobSet {name}", body=body)
        except FileExistsError:
            return None
        if created is None:
            raise ConfigurationError(f"the cluster has no JobSet API: install the JobSet controller ({JOBSET_GROUP})")
        return created

    def jobset(self, name: str) -> Object | None:
        """Return a JobSet by name."""
        return self._ask("GET", self._path(JOBSET, "jobsets", name), f"JobSet {name}")

    def jobsets(self, run: str, task: str) -> list[Object]:
        """Return the JobSets of a task."""
        return self._list(JOBSET, "jobsets", f"{RUN_LABEL}={run},{TASK_LABEL}={task}", "listing JobSets")

    def delete_jobset(self, name: str) -> None:
        """Delete a JobSet with its pods, if it exists."""
        path = self._path(JOBSET, "jobsets", name)
        self._ask("DELETE", path, f"deleting JobSet {name}", body={"propagationPolicy": "Foreground"})

    # -- related objects --------------------------------------------------------------------------------------

    def jobs(self, jobset: str) -> list[Object]:
        """Return the Jobs of a JobSet."""
        return self._list(BATCH, "jobs", f"{JOBSET_NAME_LABEL}={jobset}", f"Jobs of {jobset}")

    def set_deadline(self, job: str, seconds: int) -> None:
        """Set the active deadline of a Job, in seconds since its start, if the Job exists."""
        body = {"spec": {"activeDeadlineSeconds": seconds}}
        self._ask("PATCH", self._path(BATCH, "jobs", job), f"extending the deadline of Job {job}", body=body)

    def own_pod(self) -> Object | None:
        """Return the pod of this process; None if its name is unknown."""
        return self._ask("GET", self._path("v1", "pods", self.pod), f"pod {self.pod}") if self.pod else None

    def pods(self, jobset: str) -> list[Object]:
        """Return the pods of a JobSet."""
        return self._list("v1", "pods", f"{JOBSET_NAME_LABEL}={jobset}", f"pods of {jobset}")

    def has_ended(self, pod: str) -> bool:
        """Whether a pod has ended or does not exist."""
        answer = self._ask("GET", self._path("v1", "pods", pod), f"pod {pod}")
        return answer is None or pods.has_ended(answer)

    def follow_log(self, pod: str, since: str | None) -> Iterator[str]:
        """Yield the lines of a pod's log with timestamps until the stream ends; none if the pod has not started or is gone.

        Raises:
            HTTPError, ApiException, OSError: the stream broke.
        """
        query = [("container", MAIN_CONTAINER), ("follow", "true"), ("timestamps", "true")]
        query += [("sinceTime", since)] if since else []
        path = self._path("v1", "pods", pod) + "/log"
        try:
            response = self._send("GET", path, query, timeout_s=(REQUEST_S, LOG_READ_S), stream=True)
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
        return self._ask("GET", self._path(ARGO, "workflows", name), f"workflow {name}")

    def pending_reason(self, uid: str) -> str:
        """Return why Kueue has not admitted the JobSet with this uid yet; empty if it gives no reason."""
        for version in KUEUE:
            try:
                workloads = self._list(version, "workloads", f"{JOB_UID_LABEL}={uid}", "Kueue's workloads")
            except ConfigurationError as error:
                return str(error)
            if workloads:
                return next((reason for item in workloads if (reason := pods.unmet_quota(item))), "")
        return ""

    # -- requests ---------------------------------------------------------------------------------------------

    def _path(self, api_version: str, plural: str, name: str = "") -> str:
        root = "/apis" if "/" in api_version else "/api"
        return f"{root}/{api_version}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def _list(self, api_version: str, plural: str, selector: str, what: str) -> list[Object]:
        answer = self._ask("GET", self._path(api_version, plural), what, [("labelSelector", selector)])
        return list(answer["items"]) if answer else []

    def _ask(self, method: str, path: str, what: str, query: Query = (), body: Object | None = None) -> Object | None:
        """Send a request and return the answer; None if the object does not exist.

        Raises:
            ConfigurationError: forbidden, or the object is invalid.
            FileExistsError: the object exists already.
            NetworkError: the API server stays unreachable, or rejects the token all the time.
        """
        started = time.monotonic()
        wait_s = FIRST_PAUSE_S
        while True:
            try:
                answer = self._send(method, path, query, body)
                if isinstance(answer, dict):
                    return answer
                reason = "an answer that is not a JSON object"  # of a proxy in between
            except client.ApiException as error:
                if error.status == 404:
                    return None
                if error.status == 409 and method == "POST":  # otherwise two writers at once
                    raise FileExistsError(what) from None
                if error.status in INVALID:
                    raise ConfigurationError(_rejection(what, error)) from None
                reason = f"{error.status} {error.reason}"
                if error.status == UNAUTHORIZED:  # tokens rotate; the client reads the file of the next one within a minute
                    reason += ", the token is not accepted"
            except (HTTPError, OSError) as error:
                reason = type(error).__name__
            if time.monotonic() - started >= self.patience_s:
                raise NetworkError(f"{what}: the Kubernetes API was unreachable for {self.patience_s:g} s ({reason})")
            log.warning("%s: Kubernetes API: %s; retrying", what, reason)
            self.pause(wait_s)
            wait_s = min(wait_s * 2, LONGEST_PAUSE_S)

    def _send(
        self,
        method: str,
        path: str,
        query: Query,
        body: Object | None = None,
        *,
        timeout_s: float | tuple[float, float] = REQUEST_S,
        stream: bool = False,
    ) -> Any:
        kind = MERGE_PATCH if method == "PATCH" else "application/json"
        return self.api.call_api(
            path,
            method,
            query_params=list(query),
            header_params={"Accept": "*/*" if stream else "application/json", "Content-Type": kind},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _preload_content=not stream,
            _request_timeout=timeout_s,
        )


def _rejection(what: str, error: Any) -> str:
    remedy = "; grant this permission to the service account, as the role mm1-supervisor of the chart does"
    return f"{what}: rejected by the cluster ({error.status}): {_message(error)}{remedy if error.status == 403 else ''}"


def _message(error: Any) -> str:
    try:
        return " ".join(str(json.loads(error.body)["message"]).split())[:500]
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
