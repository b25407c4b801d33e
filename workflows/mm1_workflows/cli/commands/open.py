"""``mm1 open``: where a run is in Argo's user interface."""

from __future__ import annotations

import webbrowser

from mm1.errors import ConfigurationError
from mm1_workflows.cli.commands.output import console, say
from mm1_workflows.cli.tree.cluster import Open
from mm1_workflows.cluster.transport.connect import connect


def show(command: Open) -> int:
    """Print the address of a run's page, and open it when that is wanted."""
    transport = connect(command)
    transport.get(command.name)  # a page that shows nothing is no help
    if not command.server:
        raise ConfigurationError(
            "the user interface is Argo Server's: name its address with --server, for example after "
            "`kubectl -n argo port-forward service/argo-server 2746`: --server https://localhost:2746"
        )
    address = f"{command.server.rstrip('/')}/workflows/{transport.namespace}/{command.name}"
    say(console(), address)
    if command.browser and not webbrowser.open(address):
        raise ConfigurationError("no browser can be opened here: open the address by hand")
    return 0
