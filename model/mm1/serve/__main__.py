"""Serve a model: ``python -m mm1.serve --model FOLDER`` or ``--model <store>/manifests/<sha256>.json``.

Prints the address when it is ready. Open it for the chat page, or send requests of OpenAI's API to it. Ctrl-C stops it when the
running answers are complete, a second one at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from typing import Any

from mm1 import machine
from mm1.errors import ConfigurationError, Mm1Error
from mm1.monitoring import logs
from mm1.monitoring.logs import LogSettings

log = logging.getLogger("mm1")


def main(argv: list[str] | None = None) -> int:
    """Run the server until it is stopped, and return the exit code."""
    arguments = _parser().parse_args(argv)
    logs.configure(sys.stderr, LogSettings(format=arguments.log_format))
    os.environ.update(machine.thread_settings())  # GOMP_SPINCOUNT ..., before torch is imported
    try:
        return _serve(arguments)
    except Mm1Error as error:
        log.error("%s", error)
        return int(error.outcome)
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mm1.serve", description="Serve a model over HTTP.", allow_abbrev=False)

    def add(name: str, help: str, **options: Any) -> None:
        parser.add_argument(name, help=help, **options)

    add(
        "--model",
        "an exported folder, or the address of a Deployment, ExportedModel or Checkpoint (or its digest, with --store)",
        required=True,
    )
    add("--store", "store of the digest in --model", default="", metavar="URI")
    add("--host", "address to listen on [default: 127.0.0.1]", default="127.0.0.1")
    add("--port", "port; 0 = any free one [default: 8000]", type=int, default=8000)
    add("--name", "name of the model in requests [default: mm1]", default="mm1")
    add("--device", "auto, cpu, cuda or cuda:N [default: auto]", default="auto")
    add("--dtype", "auto, float32, bfloat16 or float16 [default: auto]", default="auto")
    add(
        "--verify-key",
        "public key (PEM); a model that it does not verify is refused [default: none]",
        default="",
        metavar="FILE",
    )
    add("--require-signature", "refuse to start without --verify-key", action="store_true")
    add("--max-tokens", "maximum number of new tokens per answer [default: the context]", type=int, metavar="N")
    add("--max-images", "maximum number of images per request [default: 16]", type=int, metavar="N")
    add("--max-tiles", "maximum number of tiles per image [default: as in the training]", type=int, metavar="N", default=0)
    add("--max-running", "maximum number of answers generated at once [default: 32]", type=int, metavar="N")
    add("--max-waiting", "maximum number of waiting answers; others get 429 [default: 256]", type=int, metavar="N")
    add("--drain", "time for running answers to end after a stop signal [default: 20]", type=float, metavar="SECONDS")
    add("--api-key-file", "file with API keys, one per line [default: the variable MM1_API_KEY]", default="", metavar="FILE")
    add("--cors-origins", "origins whose pages may send requests, comma-separated, or *", default="", metavar="ORIGINS")
    add("--image-hosts", "hosts from which images are fetched, comma-separated: name, *.name or *", default="", metavar="HOSTS")
    add("--log-format", "text, or json: one object per line [default: text]", choices=("text", "json"), default="text")
    return parser


def _settings(arguments: argparse.Namespace) -> tuple[Any, Any]:
    """Build the settings of the server and of the engine; what is not set keeps its default."""
    from mm1.config.resolve import validate
    from mm1.generation.config import EngineSettings
    from mm1.serve.config import ServeSettings

    serve = {
        "model_name": arguments.name,
        "max_tokens": arguments.max_tokens,
        "max_images": arguments.max_images,
        "drain_s": arguments.drain,
        "cors_origins": _listed(arguments.cors_origins),
        "image_hosts": _listed(arguments.image_hosts),
    }
    engine = {"max_running": arguments.max_running, "max_waiting": arguments.max_waiting}
    return validate(ServeSettings, _given(serve), "serve"), validate(EngineSettings, _given(engine), "serve")


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _serve(arguments: argparse.Namespace) -> int:
    from mm1.lineage.signing import Signatures
    from mm1.serve.api.keys import read_api_keys
    from mm1.serve.server import Server, address_of, bind

    if not arguments.model:  # a pod of the chart without the annotation that the step rollout sets
        raise ConfigurationError("no model has been promoted yet: mm1 rollout promote ADDRESS -n NAMESPACE, or set --model")
    settings, engine_settings = _settings(arguments)
    keys = read_api_keys(arguments.api_key_file)
    signatures = Signatures.of(arguments.verify_key, required=arguments.require_signature)
    listener = bind(arguments.host, arguments.port)  # before the model is loaded, so that a port in use fails at once
    from mm1.generation.device import set_inference_device
    from mm1.generation.engine import Engine
    from mm1.generation.tiles import allow_tiles
    from mm1.serve.app import create_app
    from mm1.serve.load import load

    set_inference_device(arguments.device, arguments.dtype)
    loaded = load(arguments.model, arguments.store, signatures)
    allow_tiles(loaded.generator.model, loaded.generator.processor, arguments.max_tiles)
    settings = settings.model_copy(update={"model_root": loaded.digest or arguments.model})
    engine = Engine(loaded.generator, engine_settings)
    server = Server(create_app(engine, settings, loaded.examples, api_keys=keys))
    # The server drains at the first signal; Python's own handlers would raise KeyboardInterrupt before and after.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.drain())
    sys.stdout.write(f"serving {settings.model_name} at {address_of(listener)} (stop with Ctrl-C)\n")
    sys.stdout.flush()
    server.run(sockets=[listener])
    engine.close()
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
