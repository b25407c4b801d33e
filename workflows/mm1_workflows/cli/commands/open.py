"""``mm1 open``: print the address of a run in Argo's user interface."""

from __future__ import annotations

import webbrowser
from dataclasses import dataclass
from typing import Annotated

from cappa import Arg, command

from mm1.errors import ConfigurationError
from mm1_workflows.cli.options import ClusterOptions, RunArg
from mm1_workflows.cli.output import console, say
from mm1_workflows.cluster.transport.connect import connect


@command(name="open", help="Print the address of a run in Argo's user interface.")
@dataclass
class Command(ClusterOptions):
    """``mm1 open``."""

    name: RunArg
    browser: Annotated[bool, Arg(long=True, help="Also open it in the browser.")] = False

    def __call__(self) -> int:
        """Print the address of a run's page, and open it with --browser."""
        transport = connect(self)
        transport.get(self.name)  # fails if the run does not exist
        if not self.server:
            raise ConfigurationError(
                "the user interface requires Argo Server: set --server, for example --server https://localhost:2746 after "
                "`kubectl -n argo port-forward service/argo-server 2746`"
            )
        address = f"{self.server.rstrip('/')}/workflows/{transport.namespace}/{self.name}"
        say(console(), address)
        if self.browser and not webbrowser.open(address):
            raise ConfigurationError("cannot open a browser: open the address manually")
        return 0
