"""Sending a workflow to a cluster: the Kubernetes API (kubeconfig, or inside a pod) or Argo Server (HTTP).

Both create the same object. An idempotency key becomes the workflow's name, so that a second submission finds the first. Errors
are typed: what the caller can mend is 80, what may pass is 84.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from mm1.errors import ConfigurationError, Mm1Error, NetworkError
from mm1_workflows.graph import Document, name_of

GROUP, VERSION = "argoproj.io", "v1alpha1"
PLURALS = {
    "Workflow": "workflows",
    "WorkflowTemplate": "workflowtemplates",
    "ClusterWorkflowTemplate": "clusterworkflowtemplates",
    "CronWorkflow": "cronworkflows",
}
KEY_ANNOTATION = "mm1.dev/idempotency-key"
TIMEOUT_S = 30
NAME_LIMIT = 63


@dataclass(frozen=True)
class Submitted:
    """What the cluster made of a submission."""

    name: str
    namespace: str
    created: bool
    """False: the same key was submitted before, and this is that workflow."""


class Transport(Protocol):
    """A way to a cluster."""

    def create(self, document: Document, *, dry_run: bool = False) -> Submitted:
        """Create the object, or find the one of the same name that carries the same key."""


def with_key(document: Document, key: str) -> Document:
    """Give a workflow the name that belongs to an idempotency key."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    metadata = {name: value for name, value in (document.get("metadata") or {}).items() if name != "generateName"}
    name = f"{name_of(document)[: NAME_LIMIT - 13]}-{digest}"
    annotations = (metadata.get("annotations") or {}) | {KEY_ANNOTATION: key}
    return document | {"metadata": metadata | {"name": name, "annotations": annotations}}


def _same_key(document: Document, existing: dict[str, Any]) -> bool:
    key = ((document.get("metadata") or {}).get("annotations") or {}).get(KEY_ANNOTATION)
    return bool(key) and (existing["metadata"].get("annotations") or {}).get(KEY_ANNOTATION) == key


def _exists(name: str) -> ConfigurationError:
    return ConfigurationError(f"a workflow of the name {name!r} exists already: give it another name, or an --idempotency-key")


def _refusal(status: int, reason: str, where: str) -> Mm1Error:
    """The typed error for a refusal of the server."""
    hints = {
        401: "not logged in: the credentials are missing or expired",
        403: "not permitted: the account may not create workflows there",
        404: "not found: is Argo Workflows installed, and does the namespace exist?",
        400: "refused as invalid",
        422: "refused as invalid",
    }
    if status in hints:
        return ConfigurationError(f"{where}: {hints[status]} ({reason})")
    return NetworkError(f"{where}: answered {status} ({reason}); try again")


class KubernetesTransport:
    """The Kubernetes API, by the kubeconfig's context or the pod's own service account."""

    def __init__(self, context: str = "", namespace: str = "") -> None:
        from kubernetes import client, config  # 2 s: only when a cluster is spoken to

        self.client = client
        try:
            default = self._configure(config, context)
        except config.ConfigException as error:
            raise ConfigurationError(
                f"no cluster is configured ({_one_line(error)}): set KUBECONFIG or --context, or name an "
                "Argo Server (--server); `mm1 run` needs no cluster"
            ) from None
        self.namespace = namespace or default
        self.api = client.CustomObjectsApi()

    @staticmethod
    def _configure(config: Any, context: str) -> str:
        """Load the configuration; the default namespace."""
        account = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
        if account.is_file() and not os.environ.get("KUBECONFIG") and not context:
            config.load_incluster_config()
            return account.read_text().strip()
        contexts, active = config.list_kube_config_contexts()
        chosen = next((item for item in contexts if item["name"] == context), None) if context else active
        if chosen is None:
            raise ConfigurationError(
                f"kubeconfig has no context {context!r}; it has {', '.join(item['name'] for item in contexts)}"
            )
        config.load_kube_config(context=context or None)
        return str(chosen["context"].get("namespace") or "default")

    def create(self, document: Document, *, dry_run: bool = False) -> Submitted:
        """See :class:`Transport`."""
        body = document | {"metadata": document["metadata"] | {"namespace": self.namespace}}
        options = {"dry_run": "All"} if dry_run else {}
        try:
            made = self._call("create_namespaced_custom_object", body["kind"], body=body, **options)
            return Submitted(made["metadata"]["name"], self.namespace, created=True)
        except FileExistsError:
            name = body["metadata"]["name"]
            existing = self._call("get_namespaced_custom_object", body["kind"], name=name)
            if not _same_key(document, existing):
                raise _exists(name) from None
            return Submitted(name, self.namespace, created=False)

    def _call(self, method: str, kind: str, **arguments: Any) -> Any:
        from urllib3.exceptions import HTTPError

        where = f"cluster (namespace {self.namespace})"
        try:
            return getattr(self.api, method)(
                group=GROUP,
                version=VERSION,
                namespace=self.namespace,
                plural=PLURALS[kind],
                _request_timeout=TIMEOUT_S,
                **arguments,
            )
        except self.client.ApiException as error:
            if error.status == 409:
                raise FileExistsError from None
            raise _refusal(error.status, _reason(error.body) or str(error.reason), where) from None
        except HTTPError as error:
            raise NetworkError(
                f"{where}: cannot be reached: {type(error).__name__}; check the network and KUBECONFIG"
            ) from None


class ArgoServerTransport:
    """Argo Server's HTTP interface."""

    def __init__(self, url: str, token: str = "", namespace: str = "") -> None:
        if not url.startswith(("http://", "https://")):
            raise ConfigurationError(f"--server {url!r}: an address like https://argo.example.org:2746 is wanted")
        self.url = url.rstrip("/")
        self.namespace = namespace or "default"
        bearer = token if not token or token.startswith("Bearer ") else f"Bearer {token}"
        self.headers = {"Authorization": bearer} if bearer else {}

    def create(self, document: Document, *, dry_run: bool = False) -> Submitted:
        """See :class:`Transport`."""
        kind = document["kind"]
        if kind != "Workflow":
            raise ConfigurationError(f"Argo Server takes workflows here, not a {kind}: use the Kubernetes API (no --server)")
        body: dict[str, Any] = {"workflow": document | {"metadata": document["metadata"] | {"namespace": self.namespace}}}
        if dry_run:
            body["serverDryRun"] = True
        try:
            made = self._call("POST", "", body)
            return Submitted(made["metadata"]["name"], self.namespace, created=True)
        except FileExistsError:
            name = document["metadata"]["name"]
            if not _same_key(document, self._call("GET", f"/{name}")):
                raise _exists(name) from None
            return Submitted(name, self.namespace, created=False)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        import httpx

        where = f"Argo Server {self.url}"
        address = f"{self.url}/api/v1/workflows/{self.namespace}{path}"
        try:
            response = httpx.request(method, address, json=body, headers=self.headers, timeout=TIMEOUT_S)
        except httpx.HTTPError as error:
            raise NetworkError(
                f"{where} cannot be reached: {type(error).__name__}; check the address and the network"
            ) from None
        if response.status_code == 409:
            raise FileExistsError
        if response.status_code >= 400:
            raise _refusal(response.status_code, _reason(response.text) or response.reason_phrase, where)
        try:
            return response.json()
        except ValueError:
            raise ConfigurationError(f"{where} does not answer as Argo Server does: is this its address?") from None


def _reason(body: Any) -> str:
    try:
        return _one_line(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


def _one_line(text: object) -> str:
    return " ".join(str(text).split())[:300]
