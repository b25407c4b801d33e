"""``mm1 serve``: the newest deployed model, or a given one, behind an OpenAI-compatible API."""

from __future__ import annotations

import os
import sys

from mm1.errors import ConfigurationError
from mm1.lineage.records import all_runs
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1_workflows.cli.tree.setting import Serve


def serve(command: Serve) -> int:
    """Replace this process by the server."""
    store = open_store(command.store)
    model = command.model or newest_deployment(store)
    argv = [sys.executable, "-m", "mm1.serve", "--model", model, "--store", store.uri]
    argv += ["--host", command.host, "--port", str(command.port)]
    sys.stdout.flush()
    os.execv(argv[0], argv)  # signals and the exit code are then the server's own


def newest_deployment(store: Store) -> str:
    """The manifest of the newest run that deployed a model.

    Raises:
        ConfigurationError: there is none.
    """
    for run in all_runs(store):
        for record in reversed(run.tasks.values()):
            if record.step == "deploy" and str(record.outputs.get("deployed")).lower() == "true":
                return record.manifest
    raise ConfigurationError(
        f"store {store.uri}: no run has deployed a model yet: mm1 run workflows/full.py, or name a manifest or a folder"
    )
