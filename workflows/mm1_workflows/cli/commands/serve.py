"""``mm1 serve``: serve the newest deployed model, or a given one, with an OpenAI-compatible API."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import Annotated

from cappa import Arg, command

from mm1.errors import ConfigurationError
from mm1.lineage.records import readable_runs
from mm1.store.base import Store
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, count_option, existing_store


@command(name="serve", help="Serve a model with an OpenAI-compatible API and a chat page.")
@dataclass
class Command:
    """``mm1 serve``."""

    model: Annotated[str, Arg(value_name="model", help="Manifest or folder of a model [default: the newest deployment].")] = ""
    store: StoreArg = DEFAULT_STORE
    host: Annotated[str, Arg(long=True, value_name="ADDRESS", help="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, count_option("Port to listen on.", least=0, most=65535)] = 8000

    def __call__(self) -> int:
        """Replace this process with the server."""
        store = existing_store(self.store)
        model = self.model or newest_deployment(store)
        argv = [sys.executable, "-m", "mm1.serve", "--model", model, "--store", store.uri]
        argv += ["--host", self.host, "--port", str(self.port)]
        sys.stdout.flush()
        os.execv(argv[0], argv)  # the server then handles signals and sets the exit code


def newest_deployment(store: Store) -> str:
    """Return the manifest of the newest deployment.

    Raises:
        ConfigurationError: no model has been deployed.
    """
    for run in readable_runs(store):
        for record in reversed(run.tasks.values()):
            if record.step == "deploy" and str(record.outputs.get("deployed")).lower() == "true":
                return record.manifest
    raise ConfigurationError(
        f"store {store.uri}: no run has deployed a model yet: run mm1 run workflows/full.py, or give a manifest or a folder"
    )
