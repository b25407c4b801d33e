"""Chat requests of the tests, and their replies."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx


def uri(image: bytes, kind: str = "image/png") -> str:
    """An image as a data: URL."""
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


def user(*parts: str | bytes) -> dict[str, Any]:
    """A turn of the user with texts and images."""
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image_url", "image_url": {"url": uri(part)}}
        for part in parts
    ]
    return {"role": "user", "content": content}


def ask(client: httpx.Client, *messages: dict[str, Any], **fields: Any) -> httpx.Response:
    """Send a chat request; a value of ... leaves the field out."""
    return client.post("/v1/chat/completions", json={"messages": list(messages), **fields})


def refusal(response: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The error of a reply, which has the form of OpenAI's."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"} and set(response.json()["error"]) == {"message", "type", "param", "code"}
    return response.json()["error"]


def stream(client: httpx.Client, path: str = "/v1/chat/completions", **body: Any) -> list[dict[str, Any]]:
    """The events of a stream that ends as it should."""
    with client.stream("POST", path, json={"stream": True, **body}) as response:
        assert response.headers["content-type"].startswith("text/event-stream"), response.read()
        lines = [line for line in response.iter_lines() if line]
    assert all(line.startswith("data: ") for line in lines) and lines[-1] == "data: [DONE]"
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-1]]
