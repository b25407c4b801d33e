"""Ask a running server one question about an image: ``python -m mm1.serve.probe --url http://127.0.0.1:8000``.

The startup and readiness probe in a cluster: a server can be up and its health endpoint fine, although it cannot answer
questions about images. The question is the deployment's sample, from the server's examples. A server without examples (it
serves a checkpoint) gets a question about a grey square. Exits with 0 after an answer, otherwise with the outcome class.

    GET /limits, /examples -> question, image -> POST /v1/chat/completions -> answer

The question stays within the server's limits: fewer tokens, and no image where none are allowed.

If the server needs an API key, the probe sends that of the variable MM1_API_KEY or of a key file.

Standard library only: in a pod this runs repeatedly next to the model, and importing an HTTP client would cost too much.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import struct
import sys
import time
import urllib.error
import urllib.request
import zlib
from typing import Any

from mm1.errors import ConfigurationError, Mm1Error, NetworkError
from mm1.serve.api.keys import read_api_keys

GREY_SQUARE_PX = 32
GREY_SQUARE_QUESTION = "what is in the image ?"
_MAX_REPLY_BYTES = 32 << 20


def main(argv: list[str] | None = None) -> int:
    """Ask once, print the answer and return the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        keys = read_api_keys(arguments.api_key_file)
        question, answer, seconds = ask(arguments.url, arguments.max_tokens, arguments.timeout, keys[0] if keys else "")
    except Mm1Error as error:
        sys.stderr.write(f"{error}\n")
        return int(error.outcome)
    sys.stdout.write(f"asked: {question}\nanswered in {seconds:.2f} s: {answer}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m mm1.serve.probe", description="Ask a server one question about an image.", allow_abbrev=False
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="address of the server [default: http://127.0.0.1:8000]")
    parser.add_argument("--max-tokens", type=int, default=64, help="maximum number of tokens of the answer [default: 64]")
    parser.add_argument("--timeout", type=float, default=60.0, metavar="SECONDS", help="timeout of the probe [default: 60]")
    parser.add_argument(
        "--api-key-file", default="", metavar="FILE", help="file with the API key [default: the variable MM1_API_KEY]"
    )
    return parser


def ask(url: str, max_tokens: int, timeout_s: float, api_key: str = "") -> tuple[str, str, float]:
    """Ask the server a question.

    Args:
        url: address of the server.
        max_tokens: maximum number of tokens of the answer.
        timeout_s: timeout of the probe in seconds.
        api_key: sent with each request; empty = none.

    Returns:
        The question, the answer, and the seconds that the answer took.

    Raises:
        ConfigurationError: `url` is not an address or is that of another kind of server, or it refused the question.
        NetworkError: the server is unreachable, did not answer in time, or failed.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(f"--url: expected an address such as http://127.0.0.1:8000, got {url!r}")
    url = url.rstrip("/")
    deadline = time.monotonic() + timeout_s
    limits = _object(_request(f"{url}/limits", None, deadline, api_key))
    examples = _request(f"{url}/examples", None, deadline, api_key)
    first = _object(examples[0] if isinstance(examples, list) and examples else None)
    question = str(first.get("question") or GREY_SQUARE_QUESTION)
    image = (first.get("image") or _grey_square()) if limits.get("max_images", 1) else ""
    max_tokens = min(max_tokens, limits.get("max_tokens", max_tokens))
    started = time.monotonic()
    text = answer(url, question, image, max_tokens, deadline, api_key)
    return question, text, time.monotonic() - started


def answer(url: str, question: str, image: str, max_tokens: int, deadline: float, api_key: str = "") -> str:
    """Return the server's answer to a question, without sampling.

    Args:
        url: address of the server.
        question: the question.
        image: the image as a ``data:`` URL; empty = none.
        max_tokens: maximum number of tokens of the answer.
        deadline: monotonic clock at which to give up, s.
        api_key: sent with the request; empty = none.

    Raises:
        ConfigurationError: it is another kind of server, or it refused the question.
        NetworkError: the server is unreachable, did not answer in time, or failed.
    """
    parts = [{"type": "image_url", "image_url": {"url": image}}] if image else []
    content = [*parts, {"type": "text", "text": question}]
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": max_tokens, "temperature": 0}
    reply = _request(f"{url}/v1/chat/completions", body, deadline, api_key)
    try:
        choice = reply["choices"][0]
        text, is_complete = choice["message"]["content"], choice["finish_reason"] in ("stop", "length")
    except (LookupError, TypeError):
        is_complete = False
    if not is_complete:  # an answer may be empty: a model may end it with its first token
        raise ConfigurationError(f"{url} is not a chat completions server: it replied {json.dumps(reply)[:200]}")
    return str(text)


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _request(url: str, body: dict[str, Any] | None, deadline: float, api_key: str) -> Any:
    try:
        return json.loads(text_of(url, body, deadline, api_key))
    except ValueError:
        raise ConfigurationError(f"{url} did not reply with JSON: this is another kind of server") from None


def text_of(url: str, body: dict[str, Any] | None, deadline: float, api_key: str = "") -> str:
    """Send a request and return the text of the reply.

    Args:
        url: address of the route.
        body: JSON to post; None = get.
        deadline: monotonic clock at which to give up, s.
        api_key: sent with the request; empty = none.

    Raises:
        ConfigurationError: the server refused the request.
        NetworkError: the server is unreachable, did not answer in time, or failed.
    """
    remaining = deadline - time.monotonic()
    if remaining <= 0:
        raise NetworkError(f"{url}: the timeout has expired; set a longer --timeout")
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
    request = urllib.request.Request(url, data, headers)
    # Never through a proxy: the server is on this machine or in the same cluster.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=remaining) as reply:
            content: bytes = reply.read(_MAX_REPLY_BYTES)
            return content.decode(errors="replace")
    except urllib.error.HTTPError as error:
        text = error.read(500).decode(errors="replace")
        kind = NetworkError if error.code >= 500 else ConfigurationError
        raise kind(f"{url} replied {error.code}: {text}") from None
    except (OSError, http.client.HTTPException) as error:  # includes URLError and timeouts
        reason = getattr(error, "reason", None) or error
        raise NetworkError(f"{url} did not answer: {reason or type(error).__name__}") from None


def _grey_square() -> str:
    """Return a PNG as a data URL."""
    rows = (b"\0" + b"\x80" * GREY_SQUARE_PX) * GREY_SQUARE_PX
    header = struct.pack(">IIBBBBB", GREY_SQUARE_PX, GREY_SQUARE_PX, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


if __name__ == "__main__":
    sys.exit(main())
