"""Canaries: credentials of a process that can be searched for in everything that it writes, in every form that they take."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote

CANARIES = {
    "AWS_SECRET_ACCESS_KEY": "canary/of+the=store/secret",
    "AWS_SESSION_TOKEN": "canary:of the=session&token",
    "MM1_API_KEY": 'canary-of-the-api-"key"',
    "MM1_NOTIFY_URL": "http://canary-user:canary-password@127.0.0.1:9/hooks/canary-path",
    "WANDB_API_KEY": "canary0of0wandb0123456789abcdef01234567",
    "HF_TOKEN": "hf_canary_of_the_hub",
    "ARGO_TOKEN": "Bearer canary.of.argo",
    "MM1_REGISTRY_PASSWORD": "canary-of-the-registry",
    "DATABASE_PASSWORD": "canary-of-the-database",
}
"""Variable -> credential, with characters that JSON, URLs and Base64 write in another way."""
PARTS = ("canary-password", "canary-path")
"""Parts of the address of the webhook, each a credential itself."""


def forms(value: str) -> set[bytes]:
    """What a value looks like in files: plain, in JSON, in a URL, and in Base64 alone and inside a longer text."""
    texts = {value, json.dumps(value)[1:-1], quote(value), quote(value, safe="")}
    data = value.encode()
    shifted = {base64.b64encode(b"x" * number + data)[4 if number else 0 :].rstrip(b"=")[:-2] for number in range(3)}
    return {text.encode() for text in texts} | shifted


def leaks(written: Mapping[str, bytes]) -> list[str]:
    """Which outputs have which canary: ``output: variable``.

    Args:
        written: name of the output -> content.
    """
    values = [*CANARIES.items(), *((f"part {part}", part) for part in PARTS)]
    return [f"{name}: {variable}" for name, data in written.items() for variable, value in values if _has(data, forms(value))]


def _has(data: bytes, texts: set[bytes]) -> bool:
    return any(text in data for text in texts)


def files_below(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield str(path.relative_to(folder)), path.read_bytes()
