"""No credential of a process is in anything that it writes, also when it fails: canaries, searched for in all outputs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from types import SimpleNamespace

import pytest

from mm1.errors import Outcome
from mm1.store.s3 import S3Store
from tests.support.canaries import CANARIES, files_below, forms, leaks
from tests.support.documentation import ROOT
from tests.support.raw_files import write_text
from tests.support.s3_server import s3_server

pytestmark = pytest.mark.integration
FAILED = (Outcome.CONFIGURATION, Outcome.DATA, Outcome.NETWORK)
TEXTS = ["the quick brown fox jumps over the lazy dog and runs away"] * 40


@pytest.fixture
def written(tmp_path, warm_python) -> SimpleNamespace:
    """Runs programs with canaries in their environment; collects their streams, and all files below the test's folder."""
    streams: dict[str, bytes] = {}

    def run(module: str, *arguments: str, **environment: str) -> int:
        process = warm_python.run(
            module, *arguments, timeout=120, cwd=tmp_path, env=os.environ | CANARIES | {"PYTHONPATH": str(ROOT)} | environment
        )
        name = f"{len(streams)} {module} {' '.join(arguments)[:60]}"
        streams[f"{name} stdout"], streams[f"{name} stderr"] = process.stdout.encode(), process.stderr.encode()
        return process.returncode

    def text() -> str:
        return b"".join(streams.values()).decode()

    return SimpleNamespace(run=run, text=text, all=lambda: streams | dict(files_below(tmp_path)))


@pytest.fixture
def bucket(monkeypatch) -> Iterator[str]:
    with s3_server(monkeypatch, "canaries") as uri:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # the programs of the test get the canaries
            monkeypatch.setenv(name, "reader-of-the-test")
        yield uri


@contextmanager
def answering(reply: Callable[[BaseHTTPRequestHandler], tuple[int, str]]) -> Iterator[str]:
    """A server for every request; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = reply(self)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        do_PUT = do_POST = do_HEAD = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def test_the_search_finds_every_form_of_a_canary():
    for value in CANARIES.values():
        for form in forms(value):
            assert leaks({"log": b"x" + form + b"y"}), form
    assert leaks({"header": b"Basic dXNlcjpjYW5hcnktb2YtdGhlLWRhdGFiYXNl"}) == ["header: DATABASE_PASSWORD"]
    assert leaks({"log": b"nothing of it"}) == []


def test_a_chain_in_a_bucket(written, bucket, tmp_path):
    """Ingest, a failing webhook, a report, the list of runs and a refused promotion: streams, files and the whole bucket."""
    text = write_text(tmp_path / "raw" / "text.jsonl", TEXTS)
    places = [f"--store={bucket}", "--run=canaries"]
    options = [f"--text={text.parent}", "--preset=toy", "--vocabulary=300", f"--out.manifest={tmp_path / 'raw.uri'}"]
    assert written.run("mm1_components.ingest", *options, *places, "--task=ingest", "--log-format=json") == 0
    report = ["--status=Failed", "--task=report", f"--artifact.report.html={tmp_path / 'report.html'}"]
    assert written.run("mm1_components.report", *places, *report) == 0
    assert "the notification was not delivered" in written.text()
    for command in (["runs"], ["runs", "canaries"], ["rollout", "promote", "canaries"], ["lineage", "canaries", "--verify"]):
        written.run("mm1_workflows.cli", *command, "--store", bucket)
    store = S3Store(bucket)
    objects = {key: store.read(key) for key in store.list("")}
    assert {key.split("/")[0] for key in objects} >= {"runs", "manifests", "blobs", "cache"}
    assert leaks(written.all() | objects) == []


@pytest.mark.parametrize("log_format", ["text", "json"])
@pytest.mark.parametrize("way", ["unexpected", "typed", "chained"])
def test_a_step_with_careless_libraries(written, tmp_path, way, log_format):
    places = [f"--store={tmp_path / 'store'}", "--run=leaky", f"--log-format={log_format}"]
    assert written.run("tests.support.leaky_step", f"--way={way}", *places) != 0
    assert "GET" in written.text() and "leak failed" in written.text()
    assert json.loads((tmp_path / "store" / "runs" / "leaky" / "leak.json").read_text())["state"] == "failed"
    assert leaks(written.all()) == []


@pytest.mark.parametrize(
    ("endpoint", "status"), [("http://root:canary-of-the-database@store.example:9000", 0), ("", 403), ("", 501), ("", 200)]
)
def test_a_store_that_refuses(written, endpoint, status):
    """The answer repeats what it was asked, with the headers and the signed address, as some proxies do."""

    def reply(request: BaseHTTPRequestHandler) -> tuple[int, str]:
        repeated = f"{CANARIES} {request.path} {dict(request.headers)}"
        return status, f"<Error><Code>SignatureDoesNotMatch</Code><Message>{repeated}</Message></Error>"

    model = f"--model=s3://canaries/store/manifests/{'0' * 64}.json"
    with answering(reply) as address:
        server = {"S3_ENDPOINT": endpoint or address}
        assert written.run("tests.support.leaky_step", "--way=typed", "--store=s3://canaries/store", **server) in FAILED
        assert written.run("mm1_workflows.cli", "runs", "--store=s3://canaries/x", **server) in FAILED
        assert written.run("mm1.serve", model, "--log-format=json", **server) in FAILED
    assert leaks(written.all()) == []


def test_compiled_workflows(written, tmp_path):
    """What is compiled on a machine with credentials has none of them."""
    workflow = str(ROOT / "workflows" / "rollout.py")
    for engine in ("argo", "kubeflow", "template"):
        assert written.run("mm1_workflows.cli", "compile", workflow, "--engine", engine, "--to", str(tmp_path / engine)) == 0
    assert len([name for name in written.all() if name.endswith(".yaml")]) == 3
    assert leaks(written.all()) == []
