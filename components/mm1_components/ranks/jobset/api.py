"""What the supervisor asks of Kubernetes: JobSets, pods and their logs, the workflow, Kueue's workloads. Nothing else.

Objects are plain dicts. Requests are repeated while the API server is unreachable, within a time budget, so that a restart of
the control plane does no harm. The account's rights are those of ``mm1-supervisor`` in the chart.
"""

from __future__ import annotations

import json
import logging
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

log = logging.getLogger("mm1")

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUT_S = 30
LOG_READ_S = 60
PATIENCE_S = 600.0
"""How long the API server may be unreachable."""
LONGEST_PAUSE_S = 10.0
INVALID = (400, 401, 403, 422)
NO_LOG = (400, 404)
"""Answers about the log of a pod whose container has not started, or that is gone."""
Query = Sequence[tuple[str, str]]


class Cluster:
    """A namespace of a cluster."""

    def __init__(
        self,
        api: client.ApiClient,
        namespace: str,
        *,
        patience_s: float = PATIENCE_S,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Set the way to it.

        Args:
            api: configured client.
            namespace: where all objects are.
            patience_s: how long the API server may be unreachable.
            pause: waits so many seconds before a request is repeated.
        """
        self.api, self.namespace = api, namespace
        self.patience_s, self.pause = patience_s, pause

    @classmethod
    def of_this_pod(cls) -> Cluster:
        """The namespace that this pod runs in, with the rights of its account.

        Raises:
            ConfigurationError: this is no pod.
        """
        settings = client.Configuration()
        settings.retries = False  # requests are repeated here, where it is known which
        try:
            config.load_incluster_config(client_configuration=settings)
        except config.ConfigException as error:
            raise ConfigurationError(
                f"--launcher is for pods of a cluster, and this is none ({error}); without it the ranks run on this machine"
            ) from None
        return cls(client.ApiClient(settings), NAMESPACE_FILE.read_text().strip())

    # -- JobSets ----------------------------------------------------------------------------------------------

    def create_jobset(self, body: Object) -> Object | None:
        """Create a JobSet; None when there is one of that name already."""
        name = body["metadata"]["name"]
        try:
            made = self._ask("POST", self._path(JOBSET, "jobsets"), f"creating JobSet {name}", body=body)
        except FileExistsError:
            return None
        if made is None:
            raise ConfigurationError(f"the cluster does not know JobSets: install the JobSet controller ({JOBSET_GROUP})")
        return made

    def jobset(self, name: str) -> Object | None:
        """A JobSet by name."""
        return self._ask("GET", self._path(JOBSET, "jobsets", name), f"JobSet {name}")

    def jobsets(self, run: str, task: str) -> list[Object]:
        """The JobSets of a task."""
        return self._list(JOBSET, "jobsets", f"{RUN_LABEL}={run},{TASK_LABEL}={task}", "listing JobSets")

    def delete_jobset(self, name: str) -> None:
        """Delete a JobSet with its pods; one that is gone already is fine."""
        path = self._path(JOBSET, "jobsets", name)
        self._ask("DELETE", path, f"deleting JobSet {name}", body={"propagationPolicy": "Foreground"})

    # -- what belongs to them ---------------------------------------------------------------------------------

    def pods(self, jobset: str) -> list[Object]:
        """The pods of a JobSet."""
        return self._list("v1", "pods", f"{JOBSET_NAME_LABEL}={jobset}", f"pods of {jobset}")

    def has_ended(self, pod: str) -> bool:
        """Whether a pod has ended, or is gone."""
        answer = self._ask("GET", self._path("v1", "pods", pod), f"pod {pod}")
        return answer is None or pods.has_ended(answer)

    def follow_log(self, pod: str, since: str | None) -> Iterator[str]:
        """Lines of a pod's log with their times, while the stream lasts; none of a pod that is gone or has not started.

        Raises:
            HTTPError, ApiException, OSError: the stream broke.
        """
        query = [("container", MAIN_CONTAINER), ("follow", "true"), ("timestamps", "true")]
        query += [("sinceTime", since)] if since else []
        path = self._path("v1", "pods", pod) + "/log"
        try:
            response = self._send("GET", path, query, timeout_s=(TIMEOUT_S, LOG_READ_S), stream=True)
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
        """The Argo workflow of a name."""
        return self._ask("GET", self._path(ARGO, "workflows", name), f"workflow {name}")

    def queue_complaint(self, uid: str) -> str:
        """Why Kueue has not admitted the JobSet of a uid yet; empty when it gives no reason."""
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
        """The answer to a request; None when there is no such object.

        Raises:
            ConfigurationError: the account may not, or the object is refused.
            FileExistsError: it exists already.
            NetworkError: the API server stays unreachable.
        """
        started = time.monotonic()
        wait_s = 0.5
        while True:
            try:
                answer: Object = self._send(method, path, query, body)
                return answer
            except client.ApiException as error:
                if error.status == 404:
                    return None
                if error.status == 409:
                    raise FileExistsError(what) from None
                if error.status in INVALID:
                    raise ConfigurationError(f"{what}: refused by the cluster ({error.status}): {_message(error)}") from None
                reason = f"{error.status} {error.reason}"
            except (HTTPError, OSError) as error:
                reason = type(error).__name__
            if time.monotonic() - started >= self.patience_s:
                raise NetworkError(f"{what}: the Kubernetes API was unreachable for {self.patience_s:g} s ({reason})")
            log.warning("%s: Kubernetes API: %s; trying again", what, reason)
            self.pause(wait_s)
            wait_s = min(wait_s * 2, LONGEST_PAUSE_S)

    def _send(
        self,
        method: str,
        path: str,
        query: Query,
        body: Object | None = None,
        *,
        timeout_s: float | tuple[float, float] = TIMEOUT_S,
        stream: bool = False,
    ) -> Any:
        return self.api.call_api(
            path,
            method,
            query_params=list(query),
            header_params={"Accept": "*/*" if stream else "application/json", "Content-Type": "application/json"},
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
            _preload_content=not stream,
            _request_timeout=timeout_s,
        )


def _message(error: Any) -> str:
    try:
        return " ".join(str(json.loads(error.body)["message"]).split())[:500]
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
