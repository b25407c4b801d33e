"""What the supervisor asks of Kubernetes: JobSets, pods and their logs, the workflow, Kueue's workloads. Nothing else.

Every call is repeated while the API server cannot be reached, within a time budget, so that a restart of the control plane is
ridden through. The account's rights are those of ``mm1-supervisor`` in the chart.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from mm1.errors import ConfigurationError, NetworkError
from mm1_components.ranks.jobset.jobset import GROUP, PLURAL, RUN_LABEL, TASK_LABEL, VERSION

log = logging.getLogger("mm1")

NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
TIMEOUT_S = 30
LOG_READ_S = 60
PATIENCE_S = 600.0
"""How long the API server may be away."""
JOBSET_NAME_LABEL = "jobset.sigs.k8s.io/jobset-name"
Body = dict[str, Any]


class Cluster:
    """The namespace that this pod runs in."""

    def __init__(self) -> None:
        try:
            config.load_incluster_config()
        except config.ConfigException as error:
            raise ConfigurationError(
                f"--launcher is for pods of a cluster, and this is none ({error}); without it the ranks run on this machine"
            ) from None
        self.namespace = NAMESPACE_FILE.read_text().strip()
        api = client.ApiClient()
        self.objects = client.CustomObjectsApi(api)
        self.core = client.CoreV1Api(api)
        self.raw = api

    def _call(self, action: Callable[[], Any], what: str) -> Any:
        """Do a call; None when the object is not there.

        Raises:
            ConfigurationError: the account may not, or the object is refused.
            FileExistsError: it is there already.
            NetworkError: the API server stays away.
        """
        started = time.monotonic()
        pause = 0.5
        while True:
            try:
                return action()
            except client.ApiException as error:
                if error.status == 404:
                    return None
                if error.status == 409:
                    raise FileExistsError(what) from None
                if error.status in (400, 401, 403, 422):
                    raise ConfigurationError(f"{what}: refused by the cluster ({error.status}): {_message(error)}") from None
                reason = f"{error.status} {error.reason}"
            except (HTTPError, OSError) as error:
                reason = type(error).__name__
            if time.monotonic() - started > PATIENCE_S:
                raise NetworkError(f"{what}: the Kubernetes API has been away for {PATIENCE_S:g} s ({reason})")
            log.warning("%s: Kubernetes API: %s; trying again", what, reason)
            time.sleep(pause)
            pause = min(pause * 2, 10.0)

    # -- JobSets ----------------------------------------------------------------------------------------------

    def create_jobset(self, body: Body) -> Body | None:
        """Create a JobSet; None when one of that name is there."""
        name = body["metadata"]["name"]
        try:
            made: Body = self._call(
                lambda: self.objects.create_namespaced_custom_object(
                    GROUP, VERSION, self.namespace, PLURAL, body, _request_timeout=TIMEOUT_S
                ),
                f"creating JobSet {name}",
            )
        except FileExistsError:
            return None
        if made is None:
            raise ConfigurationError("the cluster does not know JobSets: install the JobSet controller (jobset.x-k8s.io)")
        return made

    def jobset(self, name: str) -> Body | None:
        """A JobSet by name."""
        found: Body | None = self._call(
            lambda: self.objects.get_namespaced_custom_object(
                GROUP, VERSION, self.namespace, PLURAL, name, _request_timeout=TIMEOUT_S
            ),
            f"JobSet {name}",
        )
        return found

    def jobsets(self, run: str, task: str) -> list[Body]:
        """The JobSets of a task."""
        found = self._call(
            lambda: self.objects.list_namespaced_custom_object(
                GROUP,
                VERSION,
                self.namespace,
                PLURAL,
                label_selector=f"{RUN_LABEL}={run},{TASK_LABEL}={task}",
                _request_timeout=TIMEOUT_S,
            ),
            "listing JobSets",
        )
        return list(found["items"]) if found else []

    def delete_jobset(self, name: str) -> None:
        """Delete a JobSet with its pods."""
        self._call(
            lambda: self.objects.delete_namespaced_custom_object(
                GROUP, VERSION, self.namespace, PLURAL, name, propagation_policy="Foreground", _request_timeout=TIMEOUT_S
            ),
            f"deleting JobSet {name}",
        )

    # -- what belongs to them ---------------------------------------------------------------------------------

    def pods(self, jobset: str) -> list[Any]:
        """The pods of a JobSet."""
        found = self._call(
            lambda: self.core.list_namespaced_pod(
                self.namespace, label_selector=f"{JOBSET_NAME_LABEL}={jobset}", _request_timeout=TIMEOUT_S
            ),
            f"pods of {jobset}",
        )
        return list(found.items) if found else []

    def has_ended(self, pod: str) -> bool:
        """Whether a pod has ended, or is gone."""
        found = self._call(lambda: self.core.read_namespaced_pod(pod, self.namespace, _request_timeout=TIMEOUT_S), f"pod {pod}")
        return found is None or found.status.phase in ("Succeeded", "Failed")

    def follow_log(self, pod: str, since: str | None) -> Iterator[str]:
        """Lines of a pod's log with their times, while the stream lasts.

        Raises:
            HTTPError, ApiException, OSError: the stream broke.
        """
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        query = [("container", "main"), ("follow", "true"), ("timestamps", "true")]
        query += [("sinceTime", since)] if since else []
        response = self.raw.call_api(
            path,
            "GET",
            query_params=query,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _return_http_data_only=True,
            _request_timeout=(TIMEOUT_S, LOG_READ_S),
        )
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

    def workflow(self, name: str) -> Body | None:
        """The Argo workflow of a name."""
        found: Body | None = self._call(
            lambda: self.objects.get_namespaced_custom_object(
                "argoproj.io", "v1alpha1", self.namespace, "workflows", name, _request_timeout=TIMEOUT_S
            ),
            f"workflow {name}",
        )
        return found

    def queue_complaint(self, uid: str) -> str:
        """Why Kueue has not admitted the JobSet of a uid yet; empty when it says nothing, or may not be asked."""
        try:
            found = self._call(
                lambda: self.objects.list_namespaced_custom_object(
                    "kueue.x-k8s.io",
                    "v1beta2",
                    self.namespace,
                    "workloads",
                    label_selector=f"kueue.x-k8s.io/job-uid={uid}",
                    _request_timeout=TIMEOUT_S,
                ),
                "Kueue's workloads",
            )
        except ConfigurationError as error:
            return str(error)
        for workload in found["items"] if found else []:
            for condition in workload.get("status", {}).get("conditions", []):
                if condition["type"] == "QuotaReserved" and condition["status"] == "False":
                    return str(condition["message"])
        return ""


def _message(error: Any) -> str:
    try:
        return " ".join(str(json.loads(error.body)["message"]).split())[:500]
    except (ValueError, KeyError, TypeError):
        return str(error.reason)
