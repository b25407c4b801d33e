"""Transport through Argo Server's HTTP API: workflows and the logs of their pods, with a token and without a kubeconfig.

Objects are plain data. Hera's own service would drop fields that its models do not have, also from created workflows, and would
raise exceptions without a cause or remedy for responses that are not from Argo Server.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from mm1.errors import ConfigurationError, NetworkError
from mm1_components.ranks.jobset.names import ARGO, MAIN_CONTAINER
from mm1_workflows.argo.document import Document
from mm1_workflows.cluster.transport.base import (
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

Query = dict[str, str]
CLOCKS_S = 300
"""Maximum clock difference between this machine and the nodes without losing lines of a broken log."""
SHUT_DOWN = {"Stop": "stop", "Terminate": "terminate"}


class ArgoServerTransport:
    """Argo Server's HTTP API."""

    def __init__(self, url: str, token: str = "", namespace: str = "") -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"--server {url!r}: expected an address like https://argo.example.org:2746")
        self.url = url.rstrip("/")
        self.namespace = namespace or "default"
        self.options = f"-n {self.namespace} --server {self.url}"
        bearer = token if not token or token.startswith("Bearer ") else f"Bearer {token}"
        self.headers = {"Authorization": bearer} if bearer else {}

    @cached_property
    def client(self) -> Any:
        """HTTP client with persistent connections."""
        import httpx

        return httpx.Client(headers=self.headers, timeout=TIMEOUT_S)

    def create(self, document: Document, *, dry_run: bool = False) -> Submitted:
        """Create the object, or return the existing one with the same name and key."""
        kind = document["kind"]
        if kind != "Workflow":
            raise ConfigurationError(f"--server: expected a Workflow, got {kind}; use the Kubernetes API (without --server)")
        body: dict[str, Any] = {"workflow": document | {"metadata": document["metadata"] | {"namespace": self.namespace}}}
        if dry_run:
            body["serverDryRun"] = True
        try:
            created = self._ask("POST", "workflows", "create workflows", body=body)
            return Submitted(created["metadata"]["name"], self.namespace, created=True)
        except FileExistsError:
            return same_submission(document, self.get(document["metadata"]["name"]), self.namespace)

    def get(self, name: str) -> Document:
        """Return a workflow."""
        return self._ask("GET", "workflows", "read workflows", name)

    def list_workflows(self) -> list[Document]:
        """Return all workflows of the namespace."""
        fields = ("phase", "startedAt", "finishedAt", "message", "progress")
        stops = ("shutdown", "activeDeadlineSeconds")
        paths = ["items.metadata", *(f"items.spec.{field}" for field in stops), *(f"items.status.{field}" for field in fields)]
        answer = self._ask("GET", "workflows", "list workflows", query={"fields": ",".join(paths)})
        return answer.get("items") or []

    def template(self, name: str) -> Document:
        """Return a WorkflowTemplate of the namespace."""
        try:
            template = self._ask("GET", "workflow-templates", "read workflowtemplates", name)
        except NotFound:
            items = self._ask("GET", "workflow-templates", "list workflowtemplates").get("items") or []
            existing = [item["metadata"]["name"] for item in items]
            raise NotFound(missing_template(name, self.namespace, existing)) from None
        return {"apiVersion": ARGO, "kind": "WorkflowTemplate"} | template

    def shut_down(self, name: str, strategy: str) -> None:
        """Shut down a workflow with a strategy: ``Stop`` or ``Terminate``."""
        body = {"name": name, "namespace": self.namespace}
        self._ask("PUT", "workflows", "stop workflows", f"{name}/{SHUT_DOWN[strategy]}", body=body)

    @contextmanager
    def log(self, workflow: str, pod: str, since: datetime | None, follow: bool) -> Iterator[Iterator[str]]:
        """Open the log of a pod's main container."""
        import httpx

        query = {"podName": pod, "logOptions.container": MAIN_CONTAINER, "logOptions.timestamps": "true"}
        query["logOptions.follow"] = str(follow).lower()
        if since:  # its gateway does not accept absolute times
            elapsed = datetime.now(UTC) - since
            query["logOptions.sinceSeconds"] = str(max(0, int(elapsed.total_seconds())) + CLOCKS_S)
        address = self._address("workflows", f"{workflow}/log")
        timeout = httpx.Timeout(TIMEOUT_S, read=QUIET_S)
        try:
            with self.client.stream("GET", address, params=query, timeout=timeout) as response:
                if response.status_code >= 400:
                    raise refusal(response.status_code, reason_of(response.read()), self._where(), "read logs")
                yield self._lines(response)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None

    def archived(self, workflow: str, pod: str) -> list[str] | None:
        """Return the archived log of a step's pod; None if it cannot be read."""
        import httpx

        node = f"{workflow}-{pod.rpartition('-')[2]}"
        path = f"artifact-files/{self.namespace}/workflows/{workflow}/{node}/outputs/main-logs"
        try:
            answer = self.client.get(f"{self.url}/{path}")
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        return answer.text.splitlines() if answer.status_code == 200 else None

    def _lines(self, response: Any) -> Iterator[str]:
        for text in response.iter_lines():
            if not text.strip():
                continue
            try:
                entry = json.loads(text)
            except ValueError:
                raise NetworkError(f"{self._where()}: the log stream broke") from None
            if "error" in entry:
                raise NetworkError(f"{self._where()}: {one_line(entry['error'].get('message', entry['error']))}")
            yield str((entry.get("result") or {}).get("content", ""))

    def _where(self) -> str:
        return f"Argo Server {self.url} (namespace {self.namespace})"

    def _address(self, kind: str, path: str = "") -> str:
        return f"{self.url}/api/v1/{kind}/{self.namespace}" + (f"/{path}" if path else "")

    def _unreachable(self, error: Exception) -> NetworkError | ConfigurationError:
        where = self._where()
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return ConfigurationError(
                f"{where}: its certificate is not trusted: set SSL_CERT_FILE to the file of its certificate authority"
            )
        if "WRONG_VERSION_NUMBER" in str(error) or "record layer failure" in str(error):
            return ConfigurationError(f"{where}: does not use TLS: try http:// in --server")
        return NetworkError(f"{where} is unreachable: {type(error).__name__}; check the address and the network")

    def _ask(
        self, method: str, kind: str, doing: str, path: str = "", body: Document | None = None, query: Query | None = None
    ) -> Document:
        import httpx

        try:
            response = self.client.request(method, self._address(kind, path), json=body, params=query)
        except httpx.HTTPError as error:
            raise self._unreachable(error) from None
        return self._read(response, doing)

    def _read(self, response: Any, doing: str) -> Document:
        """Parse a response, and raise an error if it is not from Argo Server."""
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if response.status_code >= 500 or response.status_code == 429:
            raise refusal(response.status_code, reason_of(response.text), self._where(), doing)
        if "HTTP request to an HTTPS server" in response.text:
            raise ConfigurationError(f"{self._where()}: requires TLS: try https:// in --server")
        if not isinstance(answer, dict) or answer.get("kind") == "Status":
            kind = "the Kubernetes API, for which --server is not needed" if isinstance(answer, dict) else "another server"
            raise ConfigurationError(f"{self._where()}: expected Argo Server, got {kind}; check --server")
        if response.status_code == 409:
            raise FileExistsError
        if response.status_code >= 400:
            raise refusal(response.status_code, one_line(answer.get("message", "")), self._where(), doing)
        return answer
