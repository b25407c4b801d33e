"""What a way to a cluster offers, its refusals as typed errors, and the idempotency key.

Two ways exist: the Kubernetes API (:mod:`mm1_workflows.cluster.transport.kubernetes`) and Argo Server
(:mod:`mm1_workflows.cluster.transport.argo_server`). Both create and read the same objects; only the Kubernetes API shows pods
and JobSets. Errors are typed: 80 for what the caller has to fix, 84 for what may pass.
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
"""A log that says nothing for so long is asked for again: a dead connection looks the same."""
NAME_LIMIT = 63


class NotFound(ConfigurationError):
    """The server knows no such object, namespace or kind."""


class Refused(ConfigurationError):
    """The server does not let this account do this, or does not know who asks."""


@dataclass(frozen=True)
class Submitted:
    """What the cluster made of a submission."""

    name: str
    namespace: str
    created: bool
    """False: the same key was submitted before, and this is that workflow."""


class Transport(Protocol):
    """A way to a cluster. Every method raises ConfigurationError or NetworkError."""

    namespace: str
    options: str
    """What a command must be given to reach the same cluster and namespace, ready to be pasted."""

    def create(self, document: Document, *, dry_run: bool = False) -> Submitted:
        """Create the object, or find the one of the same name that carries the same key."""

    def get(self, name: str) -> Document:
        """A workflow.

        Raises:
            NotFound: there is none of that name.
        """

    def list_workflows(self) -> list[Document]:
        """All workflows of the namespace."""

    def template(self, name: str) -> Document:
        """A WorkflowTemplate of the namespace.

        Raises:
            NotFound: there is none of that name; the message lists those that there are.
        """

    def shut_down(self, name: str, strategy: str) -> None:
        """Ask Argo to end a workflow: ``Stop`` runs its exit task, ``Terminate`` does not."""

    def log(self, workflow: str, pod: str, since: datetime | None, follow: bool) -> AbstractContextManager[Iterator[str]]:
        """Lines of a pod's main container, each after its time stamp and a blank.

        Raises:
            NotFound: the pod is gone, or has not started.
            NetworkError: the stream broke, or was quiet for QUIET_S; ask again.
        """

    def archived(self, workflow: str, pod: str) -> list[str] | None:
        """The log of a step's pod that is gone, from the archive; None when it cannot be had this way."""


def with_key(document: Document, key: str) -> Document:
    """Give a workflow the name that belongs to an idempotency key."""
    digest = hashlib.sha256(key.encode()).hexdigest()[:12]
    metadata = {name: value for name, value in (document.get("metadata") or {}).items() if name != "generateName"}
    name = f"{name_of(document)[: NAME_LIMIT - 13]}-{digest}"
    annotations = (metadata.get("annotations") or {}) | {KEY_ANNOTATION: key}
    return document | {"metadata": metadata | {"name": name, "annotations": annotations}}


def found_by_key(document: Document, existing: Document, namespace: str) -> Submitted:
    """The workflow that exists already, when it is of the same key.

    Raises:
        ConfigurationError: it is another one.
    """
    key, name = _key(document), str(existing["metadata"]["name"])
    if not key or key != _key(existing):
        raise ConfigurationError(
            f"a workflow of the name {name!r} exists already: give it another name, or an --idempotency-key"
        )
    return Submitted(name, namespace, created=False)


def refusal(status: int, reason: str, where: str, doing: str) -> Mm1Error:
    """The typed error for a refusal of the server.

    Args:
        status: HTTP status.
        reason: the server's own words.
        where: which server and namespace.
        doing: what was asked for, as in ``create workflows``.
    """
    said = f" ({reason})" if reason else ""
    if status == 401:
        return Refused(f"{where}: not logged in: the credentials are missing or expired; log in again or renew the token{said}")
    if status == 403:
        return Refused(f"{where}: not permitted: the account may not {doing} there; ask for the Role mm1-submitter{said}")
    if status == 404:
        return NotFound(f"{where}: {_missing(reason, doing)}{said}")
    if status in (400, 422):
        return ConfigurationError(f"{where}: refused as invalid{said}")
    return NetworkError(f"{where}: answered {status}{said}; try again")


def _missing(reason: str, doing: str) -> str:
    if "namespaces " in reason:
        return "there is no such namespace: create it, or name another with -n"
    if doing.startswith(("create", "list")) or "page not found" in reason or "could not find the requested resource" in reason:
        return "not found: is Argo Workflows installed, and does the namespace exist?"
    if doing == "read workflows":
        return "there is no such run; `mm1 runs --cluster` lists those that there are"
    return "not found"


def missing_template(name: str, namespace: str, there: list[str]) -> str:
    """The words for a WorkflowTemplate that is not there."""
    hint = (
        suggest(name, there) if there else "it has none: install the chart charts/mm1 there, or name another namespace with -n"
    )
    return f"namespace {namespace} has no WorkflowTemplate {name!r}; {hint}"


def reason_of(body: Any) -> str:
    """The server's words in an answer that refuses."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
    try:
        return one_line(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return one_line(text) if len(text) < 200 and "<" not in text else ""


def one_line(text: object) -> str:
    """Text on one line, and not too much of it."""
    return " ".join(str(text).split())[:300]


def _key(document: Document) -> Any:
    return ((document.get("metadata") or {}).get("annotations") or {}).get(KEY_ANNOTATION)
