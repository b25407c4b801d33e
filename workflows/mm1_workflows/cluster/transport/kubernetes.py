"""Transport through the Kubernetes API, with a kubeconfig or the service account of a pod.

Besides workflows, it reads the other objects of a run (pods, JobSets, Kueue's Workloads), and deletes those of a stopped run.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from mm1.errors import ConfigurationError, Mm1Error, NetworkError
from mm1_components.ranks.jobset.names import ARGO, MAIN_CONTAINER
from mm1_workflows.argo.document import Document
from mm1_workflows.cluster.transport.base import (
    PLURALS,
    QUIET_S,
    TIMEOUT_S,
    NotFound,
    Submitted,
    missing_template,
    one_line,
    reason_of,
    refusal,
    same_submission,
)

PAGE = 100
CONNECTIONS = 64
"""Size of the connection pool: log streams that can be open without extra connections for other requests."""
NOT_YET = ("waiting to start", "is not available")
"""Parts of the kubelet's message about the log of a container that has not started."""
Query = Sequence[tuple[str, str]]


class KubernetesTransport:
    """The Kubernetes API, with a context of the kubeconfig or the pod's service account."""

    def __init__(self, context: str = "", namespace: str = "") -> None:
        from kubernetes import client, config  # takes 2 s, so only if needed

        self.client = client
        settings = client.Configuration()
        settings.retries = False  # retries are handled by this project, which knows which requests are idempotent
        settings.connection_pool_maxsize = CONNECTIONS
        try:
            default = self._configure(config, settings, context)
        except config.ConfigException as error:
            raise ConfigurationError(
                f"no cluster is configured ({one_line(error)}): set KUBECONFIG, --context, or --server for "
                "Argo Server; `mm1 run` needs no cluster"
            ) from None
        self.namespace = namespace or default
        self.options = f"-n {self.namespace}" + (f" --context {context}" if context else "")
        self.api = client.ApiClient(settings)

    @staticmethod
    def _configure(config: Any, settings: Any, context: str) -> str:
        """Load the configuration and return the default namespace."""
        account = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
        if account.is_file() and not os.environ.get("KUBECONFIG") and not context:
            config.load_incluster_config(client_configuration=settings)
            return account.read_text().strip()
        contexts, active = config.list_kube_config_contexts()
        chosen = next((item for item in contexts if item["name"] == context), None) if context else active
        if chosen is None:
            raise ConfigurationError(
                f"kubeconfig has no context {context!r}; contexts: {', '.join(item['name'] for item in contexts)}"
            )
        config.load_kube_config(context=context or None, client_configuration=settings)
        return str(chosen["context"].get("namespace") or "default")

    def create(self, document: Document, *, dry_run: bool = False) -> Submitted:
        """Create the object, or return the existing one with the same name and key."""
        body = document | {"metadata": document["metadata"] | {"namespace": self.namespace}}
        doing = f"create {PLURALS[body['kind']]}"
        try:
            created = self._ask("POST", self._argo(body["kind"]), doing, [("dryRun", "All")] if dry_run else [], body)
            return Submitted(created["metadata"]["name"], self.namespace, created=True)
        except FileExistsError:
            existing = self._ask("GET", self._argo(body["kind"], body["metadata"]["name"]), "read workflows")
            return same_submission(document, existing, self.namespace)

    def get(self, name: str) -> Document:
        """Return a workflow."""
        return self._ask("GET", self._argo("Workflow", name), "read workflows")

    def list_workflows(self) -> list[Document]:
        """Return all workflows of the namespace."""
        return self._pages(self._argo("Workflow"), "list workflows")

    def template(self, name: str) -> Document:
        """Return a WorkflowTemplate of the namespace."""
        try:
            return self._ask("GET", self._argo("WorkflowTemplate", name), "read workflowtemplates")
        except NotFound:
            items = self._pages(self._argo("WorkflowTemplate"), "list workflowtemplates")
            existing = [item["metadata"]["name"] for item in items]
            raise NotFound(missing_template(name, self.namespace, existing)) from None

    def shut_down(self, name: str, strategy: str) -> None:
        """Shut down a workflow with a strategy: ``Stop`` or ``Terminate``."""
        self._ask("PATCH", self._argo("Workflow", name), "change workflows", body={"spec": {"shutdown": strategy}})

    @contextmanager
    def log(self, workflow: str, pod: str, since: datetime | None, follow: bool) -> Iterator[Iterator[str]]:
        """Open the log of a pod's main container."""
        query = [("container", MAIN_CONTAINER), ("timestamps", "true"), ("follow", str(follow).lower())]
        if since:
            query.append(("sinceTime", since.strftime("%Y-%m-%dT%H:%M:%SZ")))
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        try:
            response = self._send("GET", path, "read the logs of pods", query, stream=True, read_timeout_s=QUIET_S)
        except ConfigurationError as error:
            raise NotFound(str(error)) if any(text in str(error) for text in NOT_YET) else error from None
        try:
            yield self._lines(response)
        finally:
            response.close()
            response.release_conn()

    def archived(self, workflow: str, pod: str) -> list[str] | None:
        """Return the archived log of a step's pod; None if it cannot be read."""
        return None  # it is in Argo's artifact repository, which only Argo Server can read

    def objects(self, group_version: str, plural: str, selector: str = "") -> list[Document]:
        """Return the objects of a kind in the namespace; empty if the cluster does not have the kind."""
        query = [("labelSelector", selector)] if selector else []
        try:
            return self._pages(self._path(group_version, plural), f"list {plural}", query)
        except NotFound:
            return []

    def remove(self, group_version: str, plural: str, name: str) -> None:
        """Delete an object and its dependents, if it exists."""
        body = {"propagationPolicy": "Background"}
        try:
            self._ask("DELETE", self._path(group_version, plural, name), f"delete {plural}", body=body)
        except NotFound:
            return

    def _path(self, group_version: str, plural: str, name: str = "") -> str:
        root = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
        return f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    def _argo(self, kind: str, name: str = "") -> str:
        return self._path(ARGO, PLURALS[kind], name)

    def _pages(self, path: str, doing: str, query: Query = ()) -> list[Document]:
        items: list[Document] = []
        token = ""
        while True:
            paging = [("limit", str(PAGE)), *([("continue", token)] if token else [])]
            answer = self._ask("GET", path, doing, [*query, *paging])
            items += answer.get("items") or []
            token = (answer.get("metadata") or {}).get("continue") or ""
            if not token:
                return items

    def _ask(self, method: str, path: str, doing: str, query: Query = (), body: Any = None) -> Document:
        answer = self._send(method, path, doing, query, body)
        if not isinstance(answer, dict):
            raise ConfigurationError(
                f"{self._where()}: expected the Kubernetes API, got another server; check KUBECONFIG and --context"
            )
        return answer

    def _send(
        self,
        method: str,
        path: str,
        doing: str,
        query: Query = (),
        body: Any = None,
        *,
        stream: bool = False,
        read_timeout_s: float = TIMEOUT_S,
    ) -> Any:
        from urllib3.exceptions import HTTPError

        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        try:
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
                _request_timeout=(TIMEOUT_S, read_timeout_s),
            )
        except self.client.ApiException as error:
            if error.status == 409 and method == "POST":
                raise FileExistsError from None
            if not error.status:
                raise self._no_tls(one_line(error.reason)) from None
            raise refusal(error.status, reason_of(error.body) or str(error.reason), self._where(), doing) from None
        except HTTPError as error:
            raise self._unreachable(error) from None

    def _lines(self, response: Any) -> Iterator[str]:
        """Yield complete lines of a stream; text after the last newline only if the stream ended without an error."""
        from urllib3.exceptions import HTTPError

        rest = b""
        try:
            for chunk in response.stream(65_536):
                *lines, rest = (rest + chunk).split(b"\n")
                yield from (line.decode(errors="replace") for line in lines)
        except HTTPError as error:
            raise self._unreachable(error) from None
        if rest:
            yield rest.decode(errors="replace")

    def _where(self) -> str:
        return f"cluster (namespace {self.namespace})"

    def _no_tls(self, reason: str) -> Mm1Error:
        """Return the error for a TLS failure: the user has to fix a certificate, but a broken connection is transient."""
        if "CERTIFICATE_VERIFY_FAILED" in reason or "WRONG_VERSION_NUMBER" in reason:
            return ConfigurationError(
                f"{self._where()}: {reason}; check the server and its certificate authority in KUBECONFIG"
            )
        return NetworkError(f"{self._where()}: unreachable: {reason}")

    def _unreachable(self, error: Exception) -> NetworkError:
        return NetworkError(f"{self._where()}: unreachable: {type(error).__name__}; check the network and KUBECONFIG")
