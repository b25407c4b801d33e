"""The chat page: one HTML file, its style sheet and its modules, which load nothing from another host.

    GET /, GET /page/{name}

The files are read once, so that a request needs neither a thread nor the disk.
"""

from __future__ import annotations

import mimetypes
from importlib.resources import files

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
"""Content Security Policy: no inline script or style, no other host, no frame around the page."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def router() -> APIRouter:
    """Create the routes of the chat page."""
    contents = {file.name: file.read_bytes() for file in (files("mm1.serve") / "page").iterdir() if file.is_file()}
    routes = APIRouter()

    @routes.get("/", response_class=Response, include_in_schema=False)
    async def page() -> Response:
        return _reply("index.html", contents["index.html"])

    @routes.get("/page/{name}", response_class=Response, include_in_schema=False)
    async def page_file(name: str) -> Response:
        if name not in contents:
            raise HTTPException(404, f"the chat page has no file {name!r}")
        return _reply(name, contents[name])

    return routes


def _reply(name: str, content: bytes) -> Response:
    kind = "text/javascript" if name.endswith(".js") else mimetypes.guess_type(name)[0]
    return Response(content, media_type=kind, headers=HEADERS)
