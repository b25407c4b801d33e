"""Connecting to a cluster with the options of a command."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from mm1.errors import ConfigurationError
from mm1_workflows.cluster.transport.base import Transport


class Connection(Protocol):
    """Options that select the cluster and the namespace."""

    namespace: str
    """Namespace; empty: that of the context."""
    context: str
    """Context of the kubeconfig; empty: the current one."""
    server: str
    """Address of Argo Server; empty: the Kubernetes API."""
    token_file: Path | None
    """File with the token for Argo Server; None: $ARGO_TOKEN."""


def connect(options: Connection) -> Transport:
    """Connect to the Kubernetes API, or to Argo Server if its address is given.

    Raises:
        ConfigurationError: the options conflict, or no cluster is configured.
    """
    if not options.server:
        if options.token_file:
            raise ConfigurationError("--token-file requires --server; without Argo Server, use a kubeconfig")
        from mm1_workflows.cluster.transport.kubernetes import KubernetesTransport

        return KubernetesTransport(options.context, options.namespace)
    from mm1_workflows.cluster.transport.argo_server import ArgoServerTransport

    token = os.environ.get("ARGO_TOKEN", "")  # a credential, not configuration
    if options.token_file:
        if not options.token_file.is_file():
            raise ConfigurationError(f"--token-file {options.token_file}: no such file")
        token = options.token_file.read_text().strip()
    return ArgoServerTransport(options.server, token, options.namespace)
