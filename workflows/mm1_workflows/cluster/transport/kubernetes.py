"""The way through the Kubernetes API: kubeconfig, or the service account inside a pod.

Besides workflows it reads what a run consists of: pods, JobSets, Kueue's Workloads; and removes what a stopped run left.
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
    found_by_key,
    missing_template,
    one_line,
    reason_of,
    refusal,
)

PAGE = 100
CONNECTIONS = 64
"""Log streams that may be open at a time without a new connection for each request."""
NOT_YET = ("waiting to start", "is not available")
"""What the kubelet says of the log of a container that has not started."""
Query = Sequence[tuple[str, str]]


class KubernetesTransport:
    """The Kubernetes API, by the kubeconfig's context or the pod's own service account."""

    def __init__(self, context: str = "", namespace: str = "") -> None:
        from kubernetes import client, config  # 2 s: only when a cluster is spoken to

        self.client = client
        settings = client.Configuration()
        settings.retries = False  # this project's own retries know what may be sent twice
        settings.connection_pool_maxsize = CONNECTIONS
        try:
            default = self._configure(config, settings, context)
        except config.ConfigException as error:
            raise ConfigurationError(
                f"no cluster is configured ({one_line(error)}): set KUBECONFIG or --context, or name an "
                "Argo Server (--server); `mm1 run` needs no cluster"
            ) from None
        self.namespace = namespace or default
        self.options = f"-n {self.namespace}" + (f" --context {context}" if context else "")
        self.api = client.ApiClient(settings)

    @staticmethod
    def _configure(config: Any, settings: Any, context: str) -> str:
        """Load the configuration; the default namespace."""
        account = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
        if account.is_file() and not os.environ.get("KUBECONFIG") and not context:
            config.load_incluster_config(client_configuration=settings)
            return account.read_text().strip()
        contexts, active = config.list_kube_config_contexts()
        chosen = next((item for item in contexts if item["name"] == context), None) if context else active
        if chosen is None:
            raise ConfigurationError(
                f"kubeconfig has no context {context!r}; it has {', '.join(item['name'] for item in contexts)}"
            )
        config.load_kube_config(context=context or None, client_configuration=settings)
        return str(chosen["context"].get("namespace") or "default")

    def create(self, document: Document, *, dry_run: bool = False) -> Submitted:
        """See :class:`~mm1_workflows.cluster.transport.base.Transport`."""
        body = document | {"metadata": document["metadata"] | {"namespace": self.namespace}}
        doing = f"create {PLURALS[body['kind']]}"
        try:
            made = self._ask("POST", self._argo(body["kind"]), doing, [("dryRun", "All")] if dry_run else [], body)
            return Submitted(made["metadata"]["name"], self.namespace, created=True)
        except FileExistsError:
            existing = self._ask("GET", self._argo(body["kind"], body["metadata"]["name"]), "read workflows")
            return found_by_key(document, existing, self.namespace)

    def get(self, name: str) -> Document:
        """See :class:`~mm1_workflows.cluster.transport.base.Transport`."""
        return self._ask("GET", self._argo("Workflow", name), "read workflows")

    def list_workflows(self) -> list[Document]:
        """See :class:`~mm1_workflows.cluster.transport.base.Transport`."""
        return self._pages(self._argo("Workflow"), "list workflows")

    def template(self, name: str) -> Document:
        """See :class:`~mm1_workflows.cluster.transport.base.Transport`."""
        try:
            return self._ask("GET", self._argo("WorkflowTemplate", name), "read workflowtemplates")
        except NotFound:
            there = [item["metadata"]["name"] for item in self._pages(self._argo("WorkflowTemplate"), "list workflowtemplates")]
            raise NotFound(missing_template(name, self.namespace, there)) from None

    def shut_down(self, name: str, strategy: str) -> None:
        """See :class:`~mm1_workflows.cluster.transport.base.Transport`."""
        self._ask("PATCH", self._argo("Workflow", name), "change workflows", body={"spec": {"shutdown": strategy}})

    @contextmanager
    def log(self, workflow: str, pod: str, since: datetime | None, follow: bool) -> Iterator[Iterator[str]]:
        """See :class:`~mm1_workflows.cluster.transport.base.Transport`."""
        query = [("container", MAIN_CONTAINER), ("timestamps", "true"), ("follow", str(follow).lower())]
        if since:
            query.append(("sinceTime", since.strftime("%Y-%m-%dT%H:%M:%SZ")))
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/log"
        try:
            response = self._send("GET", path, "read the logs of pods", query, stream=True, read_timeout_s=QUIET_S)
        except ConfigurationError as error:
            raise NotFound(str(error)) if any(words in str(error) for words in NOT_YET) else error from None
        try:
            yield self._lines(response)
        finally:
            response.close()
            response.release_conn()

    def archived(self, workflow: str, pod: str) -> list[str] | None:
        """See :class:`~mm1_workflows.cluster.transport.base.Transport`."""
        return None  # it is in Argo's artifact store, which only Argo Server reads

    def objects(self, group_version: str, plural: str, selector: str = "") -> list[Document]:
        """Objects of a kind in the namespace; an empty list when the cluster has no such kind."""
        query = [("labelSelector", selector)] if selector else []
        try:
            return self._pages(self._path(group_version, plural), f"list {plural}", query)
        except NotFound:
            return []

    def remove(self, group_version: str, plural: str, name: str) -> None:
        """Remove an object and what it owns; nothing happens when it is gone already."""
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
            raise ConfigurationError(f"{self._where()}: does not answer as Kubernetes does; check KUBECONFIG and --context")
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
        """Whole lines of a stream; what stands after the last line break is given only when the stream ended in order."""
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
        """TLS that failed: a certificate has to be fixed by the user, a connection that broke may pass."""
        if "CERTIFICATE_VERIFY_FAILED" in reason or "WRONG_VERSION_NUMBER" in reason:
            return ConfigurationError(f"{self._where()}: {reason}; check the server and its authority in KUBECONFIG")
        return NetworkError(f"{self._where()}: cannot be reached: {reason}")

    def _unreachable(self, error: Exception) -> NetworkError:
        return NetworkError(f"{self._where()}: cannot be reached: {type(error).__name__}; check the network and KUBECONFIG")
