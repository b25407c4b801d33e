"""``mm1 serve``: serve the promoted or newest deployed model, or a given one, with an OpenAI-compatible API."""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass, fields
from typing import Annotated

from cappa import Arg, command

from mm1 import machine
from mm1.errors import ConfigurationError
from mm1.lineage import serving
from mm1.lineage.records import readable_runs
from mm1.manifests import manifest_key
from mm1.store.base import Store
from mm1_workflows.cli.options import DEFAULT_STORE, StoreArg, count_option, existing_store

log = logging.getLogger("mm1")


def _text(value_name: str, help: str) -> Arg[str]:
    """Declare an option that is passed to the server as it is."""
    return Arg(long=True, value_name=value_name, help=help, show_default="[default" not in help)


@command(name="serve", help="Serve a model with an OpenAI-compatible API and a chat page.")
@dataclass
class Command:
    """``mm1 serve``. Options without a value keep the server's defaults."""

    model: Annotated[
        str,
        Arg(
            value_name="model",
            help="Manifest or folder of a model [default: what mm1 rollout promoted, or the newest deployment].",
        ),
    ] = ""
    store: StoreArg = DEFAULT_STORE
    host: Annotated[str, Arg(long=True, value_name="ADDRESS", help="Address to listen on.")] = "127.0.0.1"
    port: Annotated[int, count_option("Port to listen on.", least=0, most=65535)] = 8000
    name: Annotated[str, Arg(long=True, value_name="NAME", help="Name of the model in requests.")] = "mm1"
    device: Annotated[str, Arg(long=True, value_name="DEVICE", help="auto, cpu, cuda or cuda:N.")] = "auto"
    dtype: Annotated[str, Arg(long=True, value_name="DTYPE", help="auto, float32, bfloat16 or float16.")] = "auto"
    verify_key: Annotated[str, _text("FILE", "Public key (PEM); refuse a model that it does not verify [default: none].")] = ""
    require_signature: Annotated[bool, Arg(long=True, help="Refuse to start without --verify-key.")] = False
    max_tokens: Annotated[
        int | None, count_option("Maximum number of new tokens per answer [default: the context].", least=1)
    ] = None
    max_images: Annotated[int | None, count_option("Maximum number of images per request [default: 16].", least=0)] = None
    max_tiles: Annotated[
        int | None, count_option("Maximum number of tiles per image [default: as in the training].", least=1)
    ] = None
    max_running: Annotated[int | None, count_option("Maximum number of answers generated at once [default: 32].", least=1)] = (
        None
    )
    max_waiting: Annotated[
        int | None, count_option("Maximum number of waiting answers; others get 429 [default: 256].", least=1)
    ] = None
    drain: Annotated[
        int | None,
        count_option("Time for running answers to end after Ctrl-C [default: 20].", least=0, value_name="SECONDS"),
    ] = None
    api_key_file: Annotated[str, _text("FILE", "File with API keys, one per line [default: $MM1_API_KEY].")] = ""
    cors_origins: Annotated[
        str, _text("ORIGINS", "Origins whose pages may send requests, comma-separated, or * [default: none].")
    ] = ""
    image_hosts: Annotated[
        str, _text("HOSTS", "Hosts from which images are fetched, comma-separated: name, *.name or * [default: none].")
    ] = ""

    def __call__(self) -> int:
        """Replace this process with the server."""
        store = existing_store(self.store)
        model = self.model or promoted(store) or newest_deployment(store)
        argv = [sys.executable, "-m", "mm1.serve", "--model", model, "--store", store.uri, *self._options()]
        sys.stdout.flush()
        # The server then handles signals and sets the exit code.
        os.execve(argv[0], argv, os.environ | machine.thread_settings())

    def _options(self) -> list[str]:
        values = {item.name: getattr(self, item.name) for item in fields(self) if item.name not in ("model", "store")}
        options = {f"--{name.replace('_', '-')}": value for name, value in values.items() if value not in (None, "")}
        return [name if value is True else f"{name}={value}" for name, value in options.items() if value is not False]


def promoted(store: Store) -> str:
    """Return the manifest of the model that is recorded as served, and print since when; empty if there is none."""
    current = serving.current(store, serving.DEFAULT_TARGET)
    if current is None:
        return ""
    log.info(
        "serving %s, %s by %s; `mm1 rollout promote` serves another one from now on",
        current.deployment[:12],
        current.action,
        current.by,
    )
    return f"{store.uri}/{manifest_key(current.deployment)}"


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
