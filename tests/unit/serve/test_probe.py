"""The probe against the real application with a tiny model, and against what is no server of ours."""

from __future__ import annotations

import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mm1.errors import ConfigurationError, NetworkError, Outcome
from mm1.generation.engine import Engine
from mm1.generation.generator import Generator
from mm1.serve.app import create_app
from mm1.serve.config import ServeSettings
from mm1.serve.load import Example
from mm1.serve.probe import GREY_SQUARE_QUESTION, ask, main
from mm1.serve.server import address_of, bind, running
from tests.support.tiny_mm1 import picture, tiny_mm1


@pytest.fixture(scope="module")
def engine():
    engine = Engine(Generator(*tiny_mm1()))
    yield engine
    engine.close()


def test_the_deployments_own_question_is_asked(engine, capsys):
    with running(create_app(engine, ServeSettings(), [Example("what is this ?", picture(1))])) as address:
        assert main([f"--url={address}/", "--max-tokens=3"]) == 0
    said = capsys.readouterr().out
    assert "asked: what is this ?" in said and "answered in" in said


def test_a_server_without_a_sample_is_asked_about_a_picture_of_ours(engine):
    with running(create_app(engine, ServeSettings())) as address:
        question, _, seconds = ask(address, max_tokens=1, timeout_s=60)
    assert question == GREY_SQUARE_QUESTION and seconds > 0


@pytest.mark.parametrize("settings", [{"max_images": 0}, {"max_tokens": 1}, {"max_tokens": 63}, {"default_max_tokens": 1}])
def test_a_server_with_low_limits_is_ready(engine, settings):
    with running(create_app(engine, ServeSettings(**settings), [Example("what is this ?", picture(1))])) as address:
        assert main([f"--url={address}"]) == 0


def test_a_model_that_ends_its_answer_at_once_is_ready(engine, monkeypatch, capsys):
    monkeypatch.setattr(engine.generator, "stop_ids", frozenset(range(engine.generator.encoder.num_token_ids)))
    with running(create_app(engine, ServeSettings())) as address:
        assert main([f"--url={address}", "--max-tokens=1"]) == 0
    assert capsys.readouterr().out.endswith("s: \n")


def test_a_server_that_refuses_the_question_is_not_ready(engine, capsys):
    settings = ServeSettings(max_image_pixels=10)
    with running(create_app(engine, settings, [Example("what is this ?", picture(1))])) as address:
        assert main([f"--url={address}"]) == Outcome.CONFIGURATION
    assert "16 x 16 pixels" in capsys.readouterr().err


def test_nobody_there(capsys):
    listener = bind("127.0.0.1", 0)
    address = address_of(listener)
    listener.close()
    assert main([f"--url={address}"]) == Outcome.NETWORK
    assert address in capsys.readouterr().err


def test_a_server_that_takes_its_time_is_given_up():
    listener = bind("127.0.0.1", 0)  # accepts, and never says a word
    try:
        with pytest.raises(NetworkError, match="did not answer"):
            ask(address_of(listener), max_tokens=1, timeout_s=0.3)
    finally:
        listener.close()


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (200, b"<html>", ConfigurationError, "another kind of server"),
        (200, b"{}", ConfigurationError, "not a chat completions server"),
        (200, b"[1]", ConfigurationError, "not a chat completions server"),
        (200, b"null", ConfigurationError, "not a chat completions server"),
        (404, b"not here", ConfigurationError, "replied 404: not here"),
        (503, b"later", NetworkError, "replied 503: later"),
    ],
)
def test_what_is_no_answer(status, body, error, message):
    class Odd(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with pytest.raises(error, match=message):
            ask(f"http://127.0.0.1:{server.server_port}", max_tokens=1, timeout_s=10)
    finally:
        server.shutdown()
        server.server_close()


def test_no_address():
    assert main(["--url=127.0.0.1:8000"]) == Outcome.CONFIGURATION


def test_it_imports_nothing_heavy():
    program = (
        "import sys, mm1.serve.probe; "
        "heavy = {'torch', 'transformers', 'httpx', 'pydantic', 'fastapi'} & set(sys.modules); "
        "sys.exit(', '.join(heavy) or None)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
