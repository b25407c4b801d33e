"""The files of the chat page over HTTP: all are there, and nothing comes from another host or from inside the HTML."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from mm1.serve import chat_page

FILES = sorted(file.name for file in (files("mm1.serve") / "page").iterdir())
KINDS = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}


@pytest.fixture(scope="module")
def client():
    app = FastAPI()
    app.include_router(chat_page.router())
    return TestClient(app)


def test_the_page_names_files_that_exist(client):
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    addresses = re.findall(r"""(?:src|href)="([^"]+)\"""", page.text)
    assert {"page/main.js", "page/page.css", "page/icon.svg"} == set(addresses)
    for address in addresses:
        assert client.get("/" + address).status_code == 200


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_its_type_and_the_policy(client, name):
    reply = client.get(f"/page/{name}")
    assert reply.status_code == 200 and reply.content == (files("mm1.serve") / "page" / name).read_bytes()
    assert reply.headers["content-type"].startswith(KINDS[name.rpartition(".")[2]])
    policy = reply.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "*" not in policy
    assert reply.headers["cache-control"] == "no-cache"  # a browser asks again after an upgrade of the server


def test_modules_import_only_files_of_the_page():
    for name in (name for name in FILES if name.endswith(".js")):
        imported = re.findall(r"""from "([^"]+)";""", (files("mm1.serve") / "page" / name).read_text())
        assert all(path.removeprefix("./") in FILES for path in imported)


@pytest.mark.parametrize("name", FILES)
def test_the_page_asks_no_other_host(name):
    text = (files("mm1.serve") / "page" / name).read_text()
    assert not re.findall(r"""(?:src|href|url|fetch|import)\s*[=(]?\s*["']?(?:https?:)?//[a-z]""", text)
    assert not re.search(r"\b(innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval)\b", text)


@pytest.mark.parametrize("path", ["/page/nothing.js", "/page/..%2fchat_page.py", "/page/", "/page/../chat_page.py"])
def test_other_files_are_not_served(client, path):
    assert client.get(path).status_code == 404
