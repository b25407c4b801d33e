"""The interface of a connection to a cluster, its typed errors, and the idempotency key.

There are two transports: the Kubernetes API (:mod:`mm1_workflows.cluster.transport.kubernetes`) and Argo Server
(:mod:`mm1_workflows.cluster.transport.argo_server`). Both create and read the same objects; only the Kubernetes API provides
pods and JobSets. Errors are typed: 80 for errors that the caller has to fix, 84 for transient ones.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError, Mm1Error, NetworkError
from mm1_workflows.argo.document import Document, name_of

PLURALS = {
    "Workflow": "workflows",
    "WorkflowTemplate": "workflowtemplates",
    "ClusterWorkflowTemplate": "clusterworkflowtemplates",
    "CronWorkflow": "cronworkflows",
}
KEY_ANNOTATION = "mm1.dev/idempotency-key"
TIMEOUT_S = 30
QUIET_S = 15
"""Seconds without a line after which a log is requested again, because the connection may be dead."""
NAME_LIMIT = 63


class NotFound(ConfigurationError):
    """The server has no such object, namespace or kind."""


class Refused(ConfigurationError):
    """The account is not authenticated, or has no permission."""


@dataclass(frozen=True)
class Submitted:
    """The result of a submission."""

    name: str
    namespace: str
    created: bool
    """False: the existing workflow of an earlier submission with the same key."""


class Transport(Protocol):
    """A connection to a cluster. Every method raises ConfigurationError or NetworkError."""

    namespace: str
    options: str
    """Command-line options for the same cluster and namespace."""

    def create(self, document: Document, *, dry_run: bool = False) -> Submitted:
        """Create the object, or return the existing one with the same name and key."""

    def get(self, name: str) -> Document:
        """Return a workflow.

        Raises:
            NotFound: it does not exist.
        """

    def list_workflows(self) -> list[Document]:
        """Return all workflows of the namespace."""

    def template(self, name: str) -> Document:
        """Return a WorkflowTemplate of the namespace.

        Raises:
            NotFound: it does not exist; the message suggests another.
        """

    def shut_down(self, name: str, strategy: str) -> None:
        """Shut down a workflow: ``Stop`` runs its exit task, ``Terminate`` does not."""

    def log(self, workflow: str, pod: str, since: datetime | None, follow: bool) -> AbstractContextManager[Iterator[str]]:
        """Open the log of a pod's main container: lines with timestamp, space and text.

        Raises:
            NotFound: the pod is gone, or has not started.
            NetworkError: the stream broke, or had no lines for QUIET_S; retry.
        """

    def archived(self, workflow: str, pod: str) -> list[str] | None:
        """Return the archived log of a step's pod; None if this transport cannot read it."""


def with_key(document: Document, key: str) -> Document:
    """Name a workflow after an idempotency key."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    metadata = {name: value for name, value in (document.get("metadata") or {}).items() if name != "generateName"}
    name = f"{name_of(document)[: NAME_LIMIT - 13]}-{digest}"
    annotations = (metadata.get("annotations") or {}) | {KEY_ANNOTATION: key}
    return document | {"metadata": metadata | {"name": name, "annotations": annotations}}


def same_submission(document: Document, existing: Document, namespace: str) -> Submitted:
    """Return the existing workflow if it has the same key.

    Raises:
        ConfigurationError: it has another key.
    """
    key, name = _key(document), str(existing["metadata"]["name"])
    if not key or key != _key(existing):
        raise ConfigurationError(f"workflow {name!r} exists already: choose another name, or set --idempotency-key")
    return Submitted(name, namespace, created=False)


def refusal(status: int, reason: str, where: str, doing: str) -> Mm1Error:
    """Return the typed error for an error response of the server.

    Args:
        status: HTTP status.
        reason: message of the server.
        where: server and namespace.
        doing: the request, as in ``create workflows``.
    """
    detail = f" ({reason})" if reason else ""
    if status == 401:
        return Refused(
            f"{where}: unauthorized: the credentials are missing or expired; log in again or renew the token{detail}"
        )
    if status == 403:
        return Refused(
            f"{where}: forbidden: the account may not {doing} in this namespace; it needs the Role mm1-submitter{detail}"
        )
    if status == 404:
        return NotFound(f"{where}: {_missing(reason, doing)}{detail}")
    if status in (400, 422):
        return ConfigurationError(f"{where}: rejected as invalid{detail}")
    return NetworkError(f"{where}: HTTP status {status}{detail}; try again")


def _missing(reason: str, doing: str) -> str:
    if "namespaces " in reason:
        return "the namespace does not exist: create it, or set another with -n"
    if doing.startswith(("create", "list")) or "page not found" in reason or "could not find the requested resource" in reason:
        return "not found: check that Argo Workflows is installed and that the namespace exists"
    if doing == "read workflows":
        return "there is no such run; `mm1 runs --cluster` lists the runs"
    return "not found"


def missing_template(name: str, namespace: str, existing: list[str]) -> str:
    """Return the message for a missing WorkflowTemplate."""
    hint = (
        suggest(name, existing) if existing else "it has none: install the chart charts/mm1, or set another namespace with -n"
    )
    return f"namespace {namespace} has no WorkflowTemplate {name!r}; {hint}"


def reason_of(body: Any) -> str:
    """Return the server's message in an error response."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        return one_line(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return one_line(text) if len(text) < 200 and "<" not in text else ""


def one_line(text: object) -> str:
    """Return a text on one line, truncated to 300 characters."""
    return " ".join(str(text).split())[:300]


def _key(document: Document) -> Any:
    return ((document.get("metadata") or {}).get("annotations") or {}).get(KEY_ANNOTATION)
