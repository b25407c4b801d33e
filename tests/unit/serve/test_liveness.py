"""A busy server: health at once, clients that leave, a full queue, shutting down. The model is slowed down by a gate."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from mm1.generation.decode import Decoder
from mm1.monitoring.serving import SERVING
from mm1.serve.server import Server, address_of, bind
from tests.support.chat_requests import ask, refusal, user
from tests.support.waiting import wait_until

LONG = {"messages": [user("red")], "max_tokens": 40, "temperature": 2.0, "seed": 3}


@pytest.fixture
def gate(monkeypatch):
    """The model stands still until the gate is set, for at most a minute."""
    gate = threading.Event()
    extend = Decoder.extend

    def slow(self, *arguments, **options):
        gate.wait(60)
        return extend(self, *arguments, **options)

    monkeypatch.setattr(Decoder, "extend", slow)
    yield gate
    gate.set()


def stats(client):
    return client.app.state.service.engine.stats()


def left(client, streams: bool) -> socket.socket:
    """Send a chat request by hand, to leave without a reply."""
    data = json.dumps(LONG | {"stream": streams}).encode()
    connection = socket.create_connection((client.base_url.host, client.base_url.port))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
    connection.sendall(head.encode() + data)
    return connection


def test_health_models_page_and_metrics_do_not_wait_for_answers(serve, gate):
    client = serve()
    with ThreadPoolExecutor(60) as pool:
        replies = [pool.submit(ask, client, user("red"), max_tokens=2) for _ in range(60)]
        wait_until(lambda: client.app.state.service.answers.num_open == 60, "60 open requests", 30)
        for path in ("/healthz", "/health", "/readyz", "/v1/models", "/metrics", "/", "/examples", "/limits", "/version"):
            assert client.get(path, timeout=10).status_code == 200
        assert not any(reply.done() for reply in replies)
        gate.set()
        assert {reply.result().status_code for reply in replies} == {200}


@pytest.mark.parametrize("streams", [False, True])
def test_an_answer_ends_when_its_reader_leaves_running_or_waiting(serve, gate, streams):
    client = serve({"max_running": 1})
    connections = [left(client, streams) for _ in range(3)]
    wait_until(lambda: stats(client).running == 1 and stats(client).waiting == 2, "one running, two waiting", 30)
    for connection in connections:
        connection.close()
    wait_until(lambda: client.app.state.service.answers.num_open == 0, "no open request", 30)
    gate.set()
    wait_until(lambda: stats(client).cancelled == 3, "three cancelled answers", 30)
    assert stats(client).generated_tokens <= 1 and stats(client).finished == 0
    assert ask(client, user("red")).status_code == 200


def test_a_stream_that_is_left_in_the_middle_frees_its_row(serve):
    client = serve()
    with client.stream("POST", "/v1/chat/completions", json=LONG | {"stream": True, "n": 4}) as response:
        next(response.iter_lines())
    wait_until(lambda: stats(client).running == 0 and client.app.state.service.answers.num_open == 0, "nothing open", 30)


def test_beyond_the_queue_requests_get_429_with_the_time_to_wait(serve, gate):
    client = serve({"max_running": 1, "max_waiting": 2})
    connections = [left(client, False)]
    wait_until(lambda: stats(client).running == 1, "the first answer", 30)
    connections += [left(client, False) for _ in range(2)]
    wait_until(lambda: stats(client).waiting == 2, "a full queue", 30)
    for reply in (ask(client, user("red")), ask(client, user("red"), stream=True, n=2)):
        error = refusal(reply, 429)
        assert error["code"] == "rate_limit_exceeded" and int(reply.headers["retry-after"]) >= 1
    assert stats(client).waiting == 2, "all asks of a request are queued, or none"
    for connection in connections:
        connection.close()


def test_bodies_of_open_requests_have_a_limit_together(serve, gate):
    client = serve(max_open_bytes=3000)
    connection = left(client, False)
    wait_until(lambda: stats(client).running == 1, "an open request", 30)
    assert refusal(ask(client, user("red"), user="x" * 3000), 429)["message"].startswith("too many large requests")
    assert client.get("/healthz").status_code == 200
    connection.close()
    gate.set()
    wait_until(lambda: ask(client, user("red"), user="x" * 2500).status_code == 200, "room for a body", 30)


@pytest.fixture
def stopping(serve):
    """Starts a server of the same application that a test stops; gives its client, the server and its thread."""
    threads = []

    def start(**settings):
        app = serve(**settings).app
        listener = bind("127.0.0.1", 0)
        server = Server(app)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        threads.append((server, thread))
        wait_until(lambda: server.started, "the server", 30)
        client = httpx.Client(base_url=address_of(listener), timeout=60, trust_env=False)
        client.app = app
        return client, server, thread

    yield start
    for server, thread in threads:
        server.should_exit = True
        thread.join(30)


def test_at_a_signal_answers_end_and_new_requests_get_503(stopping, gate):
    client, server, thread = stopping()
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, client, user("red"), max_tokens=3)
        wait_until(lambda: stats(client).running == 1, "an answer", 30)
        server.handle_exit(signal.SIGTERM, None)
        reply = httpx.post(client.base_url.join("/v1/chat/completions"), json={"messages": [user("red")]}, trust_env=False)
        assert refusal(reply, 503)["code"] == "service_unavailable" and int(reply.headers["retry-after"]) >= 1
        assert client.get("/readyz").status_code == 503 and client.get("/healthz").status_code == 200
        gate.set()
        assert running.result().status_code == 200
    thread.join(30)
    assert not thread.is_alive()


def test_when_the_time_is_over_answers_end_with_an_error_and_streams_with_an_event(stopping, gate):
    client, server, thread = stopping(drain_s=0.0)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, client, user("red"), max_tokens=3)
        wait_until(lambda: stats(client).running == 1, "an answer", 30)
        server.handle_exit(signal.SIGTERM, None)
        assert refusal(running.result(), 503)["message"].startswith("the server shut down")
    gate.set()
    thread.join(30)
    assert not thread.is_alive()


def test_at_a_second_signal_answers_end_with_an_error_and_readers_that_do_not_read_are_left(stopping, gate):
    client, server, thread = stopping(drain_s=600.0)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(ask, client, user("red"), max_tokens=3)
        wait_until(lambda: stats(client).running == 1, "an answer", 30)
        server.handle_exit(signal.SIGINT, None)
        server.handle_exit(signal.SIGINT, None)
        assert refusal(running.result(), 503)["message"].startswith("the server shut down")
    gate.set()
    thread.join(30)
    assert not thread.is_alive() and server.force_exit


def test_a_server_whose_engine_has_ended_is_not_healthy(serve):
    client = serve()
    client.app.state.service.engine.close()
    assert client.get("/healthz").status_code == client.get("/health").status_code == 503
    assert refusal(ask(client, user("red")), 503)


def test_an_unexpected_error_is_logged_and_keeps_the_connection(serve, monkeypatch, caplog):
    client = serve()
    monkeypatch.setattr(type(client.app.state.service), "with_images", lambda *_: 1 / 0)
    error = refusal(ask(client, user("red")), 500)
    assert error["type"] == "server_error" and "ZeroDivisionError" not in error["message"]
    assert "ZeroDivisionError" in caplog.text
    assert client.get("/healthz").status_code == 200


# -- metrics, keys, origins --------------------------------------------------------------------------------------------


def test_metrics_count_requests_tokens_and_times(serve):
    client = serve()
    assert ask(client, user("red"), max_tokens=4, temperature=1, seed=1).status_code == 200
    ask(client, user("red"), tools=[{}])
    client.get("/no/such/page")
    text = client.get("/metrics").text
    for line in (
        'mm1_requests_total{code="200",method="POST",route="/v1/chat/completions"} 1.0',
        'mm1_requests_total{code="400",method="POST",route="/v1/chat/completions"} 1.0',
        'mm1_requests_total{code="404",method="GET",route="other"} 1.0',
        "mm1_answers_running 0.0",
        "mm1_answers_finished_total 1.0",
        "mm1_time_to_first_token_seconds_count 1.0",
        "mm1_answer_seconds_count 1.0",
        'mm1_request_errors_total{error="unsupported_parameter",status="400"} 1.0',
        'mm1_request_errors_total{error="invalid_request_error",status="404"} 1.0',
        f'mm1_model_info{{digest="",model="tiny",version="{version("mm1")}"}} 1.0',
        "mm1_serving_ready 1.0",
        "mm1_answers_waiting_limit 256.0",
        'mm1_image_fetches_total{result="failed"} 0.0',
    ):
        assert f"{line}\n" in text
    assert "process_resident_memory_bytes" in text
    own = re.compile(r"mm1_.*(?<!_created)")
    families = [family for family in text_string_to_metric_families(text) if own.fullmatch(family.name)]
    assert {family.name for family in families} == set(SERVING)
    for family in families:
        assert family.documentation == SERVING[family.name].help and family.type == SERVING[family.name].kind
        for sample in family.samples:
            assert sample.name in SERVING[family.name].series
            assert sample.labels.keys() - {"le"} == set(SERVING[family.name].labels)


def test_a_server_that_shuts_down_is_not_ready_and_its_refusals_are_counted(serve):
    client = serve()
    client.app.state.service.answers.is_draining = True
    refusal(ask(client, user("red")), 503)
    text = client.get("/metrics").text
    assert "mm1_serving_ready 0.0\n" in text
    assert 'mm1_request_errors_total{error="service_unavailable",status="503"} 1.0\n' in text


def test_with_a_key_only_health_metrics_and_the_page_are_open(serve):
    client = serve(app={"api_keys": ["first-key", "schlüssel"]})
    assert client.get("/limits").json()["api_key"] is True
    for path in ("/healthz", "/health", "/readyz", "/metrics", "/"):
        assert client.get(path).status_code == 200
    for path in ("/v1/models", "/examples", "/tokenizer_info", "/nothing"):
        for header in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "first-key"},
            {"Authorization": "Basic first-key"},
        ):
            reply = client.get(path, headers=header)
            assert refusal(reply, 401)["code"] == "invalid_api_key" and "first-key" not in reply.text
    for key in ("first-key", "schlüssel"):
        assert client.get("/v1/models", headers={"Authorization": f"Bearer {key}".encode()}).status_code == 200
    assert client.get("/v1/models", headers={"Authorization": "bearer  first-key"}).status_code == 200


def test_pages_of_allowed_origins_may_send_requests(serve):
    client = serve(cors_origins=("https://chat.example.com",), app={"api_keys": ["key"]})
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,x-stainless-os"}
    origin = {"Origin": "https://chat.example.com"}
    allowed = client.options("/v1/chat/completions", headers=origin | asked)
    assert allowed.status_code == 200 and allowed.headers["access-control-allow-origin"] == "https://chat.example.com"
    assert client.options("/v1/chat/completions", headers={"Origin": "https://evil.org"} | asked).status_code == 400
    assert "access-control-allow-origin" in client.get("/v1/models", headers=origin).headers, "also of refusals"
