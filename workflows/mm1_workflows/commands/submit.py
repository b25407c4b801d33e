"""``mm1 submit`` and ``hera submit``: a workflow to a cluster."""

from __future__ import annotations

import os
import sys

from mm1.errors import ConfigurationError
from mm1_workflows import graph, parameters
from mm1_workflows.commands.output import console, say
from mm1_workflows.compile import to_yaml
from mm1_workflows.graph import Document
from mm1_workflows.load import load
from mm1_workflows.transport import ArgoServerTransport, KubernetesTransport, Transport, with_key
from mm1_workflows.tree.running import Submit


def submit(command: Submit) -> int:
    """Check everything that can be checked here, then print, let the server check, or create."""
    if command.dry_run not in ("", "client", "server"):
        raise ConfigurationError(f"--dry-run {command.dry_run!r}: client or server")
    document = prepared(command)
    if command.dry_run == "client":
        sys.stdout.write(to_yaml(document))
        return 0
    shown = console()
    made = _transport(command).create(document, dry_run=command.dry_run == "server")
    if command.dry_run:
        say(shown, f"the cluster accepts {graph.name_of(document)} in namespace {made.namespace}")
        return 0
    words = "submitted" if made.created else "was submitted before"
    say(shown, f"{made.name} {words}, namespace {made.namespace}")
    return 0


def prepared(command: Submit) -> Document:
    """The object that is sent: built, inside the subset, with checked parameters.

    Raises:
        ConfigurationError: anything that is wrong with it.
    """
    loaded = load(command.file, command.profile)
    workflow = graph.read(loaded.document)
    values = parameters.check(workflow, parameters.parse(command.parameters))
    document = parameters.apply(loaded.document, values)
    return with_key(document, command.idempotency_key) if command.idempotency_key else document


def _transport(command: Submit) -> Transport:
    if not command.server:
        return KubernetesTransport(command.context, command.namespace)
    token = os.environ.get("ARGO_TOKEN", "")  # a credential, not configuration
    if command.token_file:
        if not command.token_file.is_file():
            raise ConfigurationError(f"--token-file {command.token_file}: no such file")
        token = command.token_file.read_text().strip()
    return ArgoServerTransport(command.server, token, command.namespace)
