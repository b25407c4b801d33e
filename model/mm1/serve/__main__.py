"""Serve a model: ``python -m mm1.serve --model FOLDER`` or ``--model <store>/manifests/<sha256>.json``.

Prints the address when it is ready. Open it for the chat page, or send chat completion requests to it. Ctrl-C stops it.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys

from mm1.errors import Mm1Error

log = logging.getLogger("mm1")


def main(argv: list[str] | None = None) -> int:
    """Run the server until it is stopped, and return the exit code."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    arguments = _parser().parse_args(argv)
    try:
        return _serve(arguments)
    except Mm1Error as error:
        log.error("%s", error)
        return int(error.outcome)
    except KeyboardInterrupt:
        return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m mm1.serve", description="Serve a model over HTTP.", allow_abbrev=False)
    parser.add_argument(
        "--model",
        required=True,
        help="an exported folder, or the address of a Deployment, ExportedModel or Checkpoint (or its digest, with --store)",
    )
    parser.add_argument("--store", default="", metavar="URI", help="store of the digest in --model")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on [default: 127.0.0.1]")
    parser.add_argument("--port", type=int, default=8000, help="port; 0 = any free one [default: 8000]")
    parser.add_argument("--name", default="mm1", help="name of the model in requests [default: mm1]")
    parser.add_argument("--max-tokens", type=int, default=512, help="maximum number of new tokens per answer [default: 512]")
    return parser


def _serve(arguments: argparse.Namespace) -> int:
    from mm1.config.resolve import validate
    from mm1.serve.config import ServeSettings
    from mm1.serve.server import address_of, bind, make_server

    settings = validate(
        ServeSettings,
        {
            "model_name": arguments.name,
            "max_tokens": arguments.max_tokens,
            "default_max_tokens": min(64, arguments.max_tokens),
        },
        "serve",
    )
    listener = bind(arguments.host, arguments.port)  # before the model is loaded, so that a port in use fails at once
    from mm1.serve.app import create_app
    from mm1.serve.chat import Chat
    from mm1.serve.load import load

    loaded = load(arguments.model, arguments.store)
    app = create_app(Chat(loaded.generator), settings, loaded.examples)
    # The server stops gracefully on both signals and then raises them again for the previous handlers.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    sys.stdout.write(f"serving {settings.model_name} at {address_of(listener)} (stop with Ctrl-C)\n")
    sys.stdout.flush()
    make_server(app).run(sockets=[listener])
    log.info("stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
