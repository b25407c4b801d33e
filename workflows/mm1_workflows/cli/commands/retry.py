"""``mm1 retry``: a run that failed or was stopped, once more.

It becomes a new workflow of the same spec: the step cache makes the finished steps free, training goes on from its last
checkpoint, and the old run stays as it was. Argo's own retry changes the old workflow in place and exists in Argo Server only;
this way is the same on both.
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
OURS = ("app.kubernetes.io/", "mm1.dev/")
"""Labels and annotations that the new workflow takes over; the rest is the engine's account of the old one."""


@command(name="retry", help="Run a failed run again as a new one; the cache makes its finished steps free.")
@dataclass
class Command(ClusterOptions):
    """``mm1 retry``."""

    name: RunArg
    watch: WatchArg = False
    logs: LogsArg = False

    def __call__(self) -> int:
        """Submit a finished run's spec again."""
        transport = connect(self)
        old = transport.get(self.name)
        made = transport.create(again(old))
        output = console()
        say(output, f"{made.name} submitted, namespace {made.namespace}: {self.name} once more, finished steps from the cache")
        if not (self.watch or self.logs):
            say(output, f"follow it with `mm1 watch {made.name} {transport.options}`")
            return 0
        return _follow(transport, made.name, self)


def _follow(transport: Transport, name: str, command: Command) -> int:
    from mm1_workflows.cluster.following.follow import follow

    return follow(transport, name, console(), watch=command.watch, logs=command.logs)


def again(old: Document) -> Document:
    """The workflow that repeats another one.

    Raises:
        ConfigurationError: it still runs, or there is nothing to repeat.
    """
    metadata = old["metadata"]
    name = str(metadata["name"])
    if not finished(old):
        raise ConfigurationError(f"{name} is {phase_of(old).lower()}: wait for its end, or `mm1 stop {name}` first")
    if phase_of(old) == "Succeeded":
        raise ConfigurationError(f"{name} succeeded: there is nothing to try again; submit the file for another run")
    spec = {key: value for key, value in old["spec"].items() if key not in ("shutdown", "suspend")}
    annotations = _ours(metadata.get("annotations")) | {RETRY_OF: name}
    return {
        "apiVersion": ARGO,
        "kind": "Workflow",
        "metadata": {
            "generateName": _stem(metadata),
            "labels": _ours(metadata.get("labels")),
            "annotations": {key: value for key, value in annotations.items() if key != KEY_ANNOTATION},
        },
        "spec": spec,
    }


def _ours(values: Any) -> dict[str, str]:
    return {key: value for key, value in (values or {}).items() if key.startswith(OURS)}


def _stem(metadata: dict[str, Any]) -> str:
    return str(metadata.get("generateName") or f"{metadata['name'][:50].rstrip('-')}-")
