"""``mm1 retry``: retry a run that failed or was stopped.

It creates a new workflow with the same spec. Finished steps come from the step cache, training resumes from its last
checkpoint, and the old run does not change. Argo's own retry changes the old workflow and only exists in Argo Server; this
command is the same with both transports.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cappa import command

from mm1.errors import ConfigurationError
from mm1_components.ranks.jobset.names import ARGO
from mm1_workflows.argo.document import Document
from mm1_workflows.cli.options import ClusterOptions, LogsArg, RunArg, WatchArg
from mm1_workflows.cli.output import console, say
from mm1_workflows.cluster.following.nodes import finished, phase_of
from mm1_workflows.cluster.transport.base import KEY_ANNOTATION, Transport
from mm1_workflows.cluster.transport.connect import connect

RETRY_OF = "mm1.dev/retry-of"
SUFFIX_LENGTH = 5
KEPT_PREFIXES = ("app.kubernetes.io/", "mm1.dev/")
"""Prefixes of labels and annotations that are copied to the new workflow; the others belong to the old run."""


@command(name="retry", help="Retry a failed run as a new one, with finished steps from the cache.")
@dataclass
class Command(ClusterOptions):
    """``mm1 retry``."""

    name: RunArg
    watch: WatchArg = False
    logs: LogsArg = False

    def __call__(self) -> int:
        """Submit the spec of a finished run again."""
        transport = connect(self)
        old = transport.get(self.name)
        created = transport.create(again(old))
        output = console()
        say(
            output,
            f"{created.name} submitted, namespace {created.namespace}: a retry of {self.name} (finished steps from the cache)",
        )
        if not (self.watch or self.logs):
            say(output, f"follow it with `mm1 watch {created.name} {transport.options}`")
            return 0
        return _follow(transport, created.name, self)


def _follow(transport: Transport, name: str, command: Command) -> int:
    from mm1_workflows.cluster.following.follow import follow

    return follow(transport, name, console(), watch=command.watch, logs=command.logs)


def again(old: Document) -> Document:
    """Return the workflow that retries another one.

    Raises:
        ConfigurationError: it is still running, or has succeeded.
    """
    metadata = old["metadata"]
    name = str(metadata["name"])
    if not finished(old):
        raise ConfigurationError(f"{name} is {phase_of(old).lower()}: wait for it to end, or stop it with `mm1 stop {name}`")
    if phase_of(old) == "Succeeded":
        raise ConfigurationError(f"{name} succeeded, so there is nothing to retry; submit the file for another run")
    spec = {key: value for key, value in old["spec"].items() if key not in ("shutdown", "suspend")}
    annotations = _kept(metadata.get("annotations")) | {RETRY_OF: name}
    return {
        "apiVersion": ARGO,
        "kind": "Workflow",
        "metadata": {
            "generateName": _stem(metadata),
            "labels": _kept(metadata.get("labels")),
            "annotations": {key: value for key, value in annotations.items() if key != KEY_ANNOTATION},
        },
        "spec": spec,
    }


def _kept(values: Any) -> dict[str, str]:
    return {key: value for key, value in (values or {}).items() if key.startswith(KEPT_PREFIXES)}


def _stem(metadata: dict[str, Any]) -> str:
    return str(metadata.get("generateName") or f"{metadata['name'][:50].rstrip('-')}-")
