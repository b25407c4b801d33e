"""Remote images: real servers that are slow, hostile or in a private network, and names whose addresses change."""

from __future__ import annotations

import gzip
import http.server
import logging
import os
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest

from mm1.data.prepare.locations.fetch import MAX_ATTEMPTS, MAX_LOGGED, Fetcher
from mm1.data.prepare.locations.networks import is_public
from tests.support.mixtures import encoded_image

RED = encoded_image(1, image_format="JPEG")
DRIP_S = 0.05


class Pages(http.server.BaseHTTPRequestHandler):
    """A page per kind of answer; counts requests, and those at the same time."""

    protocol_version = "HTTP/1.1"
    asked: ClassVar[Counter] = Counter()
    hosts: ClassVar[list] = []
    lock: ClassVar = threading.Lock()
    open: ClassVar[int] = 0
    most_open: ClassVar[int] = 0

    def do_GET(self) -> None:
        self.close_connection = True
        with self.lock:
            self.asked[self.path] += 1
            self.hosts.append(self.headers["Host"])
        with suppress(OSError):
            getattr(self, self.path.strip("/").split("/")[0].split("?")[0].replace("-", "_"))()

    def answer(self, status: int = 200, data: bytes = RED, **headers: str) -> None:
        self.send_response(status)
        for name, value in ({"Content_Length": str(len(data))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def drip(self, data: bytes) -> None:
        while True:
            self.wfile.write(data)
            self.wfile.flush()
            time.sleep(DRIP_S)

    def good(self) -> None:
        self.answer()

    def slow_good(self) -> None:
        with self.lock:  # only until the answer: the client goes on before this thread does
            type(self).open += 1
            type(self).most_open = max(self.most_open, self.open)
        time.sleep(0.05)
        with self.lock:
            type(self).open -= 1
        self.answer()

    def gone(self) -> None:
        self.answer(404, b"")

    def busy_once(self) -> None:
        self.answer(503 if self.asked[self.path] == 1 else 200)

    def busy(self) -> None:
        self.answer(503)

    def reset_once(self) -> None:
        if self.asked[self.path] > 1:
            self.answer()

    def moved(self) -> None:
        self.answer(302, b"", Location="/good")

    def around(self) -> None:
        self.answer(302, b"", Location="/around")

    def slow_around(self) -> None:
        time.sleep(0.4)
        self.answer(302, b"", Location="/slow-around")

    def to_file(self) -> None:
        self.answer(302, b"", Location="file:///etc/passwd")

    def inwards(self) -> None:
        self.answer(302, b"", Location=f"http://inside.test:{self.server.server_port}/good")

    def slow_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        self.drip(b"x")

    def continued(self) -> None:
        self.drip(b"HTTP/1.1 100 Continue\r\n\r\n")

    def many_headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n")

    def slow_body(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "3000")
        self.end_headers()
        self.drip(b"x")

    def silent(self) -> None:
        time.sleep(2)

    def cut(self) -> None:
        self.answer(Content_Length=str(len(RED) + 10))

    def large(self) -> None:
        self.answer(data=bytes(5_000))

    def claims_to_be_large(self) -> None:
        self.answer(data=b"x", Content_Length="99999999999")

    def endless_chunks(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        while True:
            self.wfile.write(b"64\r\n" + bytes(100) + b"\r\n")

    def chunked(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for data in (RED[:100], RED[100:], b""):
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def bad_chunks(self) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"not hex\r\n")

    def endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(10_000))

    def gzipped(self) -> None:
        self.answer(data=gzip.compress(RED), Content_Encoding="gzip")

    def bomb(self) -> None:
        self.answer(data=gzip.compress(gzip.compress(bytes(50_000_000))), Content_Encoding="gzip, gzip")

    def not_gzip(self) -> None:
        self.answer(Content_Encoding="gzip")

    def not_http(self) -> None:
        self.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n")

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64


@pytest.fixture
def port() -> Iterator[int]:
    with Server(("127.0.0.1", 0), Pages) as server:
        Pages.asked.clear()
        Pages.hosts.clear()
        Pages.open = Pages.most_open = 0
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mm1.data.prepare.locations.fetch.BACKOFF_S", 0.02)


def names(table: dict[str, list[str]]) -> Callable[[str, int], list[str]]:
    """A resolver that gives the answers of a name one after another; the last one again and again."""
    left = {name: list(answers) for name, answers in table.items()}

    def resolve(host: str, port: int) -> list[str]:
        if host not in left:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return (left[host].pop(0) if len(left[host]) > 1 else left[host][0]).split()

    return resolve


def here(port: int, **options: object) -> Fetcher:
    return Fetcher(private=True, max_bytes=4_000, timeout_s=options.pop("timeout_s", 10), **options)


@pytest.mark.parametrize("page", ["good", "moved", "chunked", "gzipped", "busy-once", "reset-once", "good?a=%20b c&d=ü"])
def test_images_that_arrive(port: int, page: str) -> None:
    fetch = here(port)
    assert fetch(f"http://user:secret@127.0.0.1:{port}/{page}#part") == RED
    assert (fetch.num_fetched, fetch.num_failed) == (1, 0)
    assert set(Pages.hosts) == {f"127.0.0.1:{port}"}


@pytest.mark.parametrize(
    ("page", "reason", "requests"),
    [
        ("gone", "status 404", 1),
        ("busy", "status 503", MAX_ATTEMPTS),
        ("around", "too many redirects", 4),
        ("to-file", "not an http address", 1),
        ("large", "too large", 1),
        ("claims-to-be-large", "too large", 1),
        ("endless", "too large", 1),
        ("endless-chunks", "too large", 1),
        ("bomb", "too large", 1),
        ("cut", "connection lost", MAX_ATTEMPTS),
        ("bad-chunks", "connection lost", MAX_ATTEMPTS),
        ("not-gzip", "damaged answer", 1),
        ("not-http", "damaged answer", 1),
        ("many-headers", "damaged answer", 1),
    ],
)
def test_images_that_do_not_arrive_are_counted_by_reason(port: int, page: str, reason: str, requests: int) -> None:
    fetch = here(port)
    assert fetch(f"http://127.0.0.1:{port}/{page}") == b""
    assert fetch.failures == {reason: 1} and fetch.num_failed == 1
    assert Pages.asked.total() == requests


def test_failures_of_a_kind_are_logged_a_few_times(port: int, caplog: pytest.LogCaptureFixture) -> None:
    fetch = here(port)
    with caplog.at_level(logging.INFO):
        for number in range(3 * MAX_LOGGED):
            fetch(f"http://127.0.0.1:{port}/gone?{number}")
        fetch("http://")
    assert [record.getMessage().count("status 404") for record in caplog.records] == [1] * MAX_LOGGED + [0]
    assert fetch.failures["status 404"] == 3 * MAX_LOGGED


@pytest.mark.parametrize("page", ["slow-headers", "slow-body", "continued", "silent", "slow-around"])
def test_one_image_holds_nobody_longer_than_the_total_time(port: int, page: str) -> None:
    fetch, start = here(port, timeout_s=0.5), time.monotonic()
    assert fetch(f"http://127.0.0.1:{port}/{page}") == b""
    assert time.monotonic() - start < 1.5
    assert fetch.failures == {"timeout": 1}


def test_a_name_server_that_does_not_answer() -> None:
    fetch, start = Fetcher(timeout_s=0.3, resolve=lambda host, port: time.sleep(2) or []), time.monotonic()
    assert fetch("http://a.test/x") == b"" and fetch.failures == {"timeout": 1}
    assert time.monotonic() - start < 1


@pytest.mark.parametrize("silent", [True, False], ids=["no handshake", "a handshake of bytes"])
def test_a_server_that_never_ends_its_tls_handshake(silent: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            peer.sendall(b"\x16\x03\x03\x40\x00")  # the header of a record of 16 kB
            while not silent:
                try:
                    peer.sendall(b"\x02")
                except OSError:
                    return
                time.sleep(DRIP_S)
            peer.recv(1 << 16)
            time.sleep(2)

        threading.Thread(target=serve, daemon=True).start()
        fetch, start = here(0, timeout_s=0.5), time.monotonic()
        assert fetch(f"https://127.0.0.1:{listener.getsockname()[1]}/x") == b""
        assert time.monotonic() - start < 1.5 and fetch.failures == {"timeout": 1}


# -- who is asked -------------------------------------------------------------------------------------------------------

PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "2a00:1450:4001:81b::200e"]
SPECIAL = [
    *("10.0.0.1", "172.16.0.1", "192.168.1.1", "127.0.0.1", "127.255.255.254", "0.0.0.0", "0.1.2.3", "169.254.169.254"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "100.64.0.1", "100.127.255.255", "198.18.0.1"),
    *("198.19.255.255", "192.0.2.1", "198.51.100.1", "203.0.113.1", "192.0.0.1", "192.0.0.9", "192.0.0.170", "192.88.99.1"),
    *("192.31.196.1", "192.52.193.1", "192.175.48.1"),
    *("::", "::1", "::7f00:1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "::ffff:0:10.0.0.1", "fe80::1", "fe80::1%lo"),
    *("fec0::1", "fc00::1", "fd12:3456::1", "ff02::1", "ff0e::1", "64:ff9b::a00:1", "64:ff9b::808:808", "64:ff9b:1::1"),
    *("2002:a00:1::1", "2002:808:808::1", "2001::1", "2001:0:53aa:64c::1", "2001:2::1", "2001:10::1", "2001:20::1"),
    *("2001:db8::1", "3fff::1", "3ffe::1", "100::1", "5f00::1", "2620:4f:8000::1", "4000::1", "8000::1", "e000::1"),
    *("", "localhost", "256.1.1.1", "1.2.3", "0x7f.1"),
]


def test_addresses_of_the_public_internet() -> None:
    assert [address for address in PUBLIC if not is_public(address)] == []
    assert [address for address in SPECIAL if is_public(address)] == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::1]",
        "0.0.0.0",
        "0",
        "2130706433",
        "0177.0.0.1",
        "0x7f000001",
        "127.1",
        "localhost.",
        "LOCALHOST",
    ],
)
def test_this_machine_is_not_asked_however_it_is_written(port: int, host: str) -> None:
    fetch = Fetcher(timeout_s=5)
    assert fetch(f"http://{host}:{port}/good") == fetch(f"http://93.184.216.34@{host}:{port}/good") == b""
    assert not Pages.asked and fetch.num_failed == 2


def test_a_name_is_resolved_once_and_its_checked_address_is_the_one_that_is_asked(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "create_connection", connect)
    fetch = Fetcher(resolve=names({"rebinding.test": ["93.184.216.34", "127.0.0.1"]}))
    assert fetch(f"http://rebinding.test:{port}/good") == b""
    assert tried == ["93.184.216.34"] and fetch.failures == {"not a public address": 1}  # the second attempt resolves again


@pytest.mark.parametrize("answers", ["127.0.0.1 93.184.216.34", "93.184.216.34 127.0.0.1", "93.184.216.34 64:ff9b::7f00:1"])
def test_every_address_of_a_name_is_checked(port: int, answers: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_: pytest.fail("connected"))
    fetch = Fetcher(resolve=names({"both.test": [answers]}))
    assert fetch(f"http://both.test:{port}/good") == b"" and fetch.failures == {"not a public address": 1}


def test_a_redirect_inwards_is_not_followed(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mm1.data.prepare.locations.fetch.is_public", lambda address: address == "127.0.0.1")
    fetch = Fetcher(resolve=names({"outside.test": ["127.0.0.1"], "inside.test": ["127.0.0.2"]}))
    assert fetch(f"http://outside.test:{port}/good") == RED
    assert fetch(f"http://outside.test:{port}/inwards") == b"" and fetch.failures == {"not a public address": 1}
    assert Pages.hosts == [f"outside.test:{port}"] * 2


@pytest.mark.parametrize(
    "address",
    [
        "",
        "x",
        "file:///etc/passwd",
        "ftp://a.test/x",
        "http://",
        "http:///x",
        "//a.test/x",
        "http://a.test:99999/",
        "http://a\r\nb/",
        "http://[::1",
        "gopher://a.test",
        "http://%00/",
        "http://" + "a" * 300 + ".test/",
        "http://a..test/",
        "http://\ud83d/",
        "http://a.test/\udce9",
    ],
)
def test_what_is_no_address_or_no_host_is_counted(address: str) -> None:
    fetch = Fetcher(timeout_s=5, resolve=names({}))
    assert fetch(address) == b"" and set(fetch.failures) <= {"not an http address", "unknown host"} and fetch.num_failed == 1
    assert fetch.fetch_many([address]) == {address: b""}


def test_a_host_that_has_no_address_for_the_moment_is_asked_again(port: int) -> None:
    answers = [socket.gaierror(socket.EAI_AGAIN, "later"), ["127.0.0.1"]]

    def resolve(host: str, port: int) -> list[str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert Fetcher(private=True, resolve=resolve)(f"http://a.test:{port}/good") == RED


def test_certificates_are_those_of_the_name(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate)]
    subject = ["-days", "2", "-subj", "/CN=images.test", "-addext", "subjectAltName=DNS:images.test"]
    subprocess.run([*command, *subject], check=True, capture_output=True, env={"PATH": os.environ["PATH"]})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with Server(("127.0.0.1", 0), Pages) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        fetch = here(0, resolve=names({"images.test": ["127.0.0.1"], "other.test": ["127.0.0.1"]}))
        assert fetch(f"https://images.test:{server.server_port}/good") == b""  # nobody vouches for it
        fetch.__dict__["_tls"] = ssl.create_default_context(cafile=certificate)
        assert fetch(f"https://images.test:{server.server_port}/good") == RED
        assert fetch(f"https://other.test:{server.server_port}/good") == b""
        assert fetch.failures == {"invalid certificate": 2}
        server.shutdown()


# -- many ---------------------------------------------------------------------------------------------------------------


def test_a_batch_is_fetched_concurrently_within_the_limits(port: int) -> None:
    hosts = {f"host{number}.test": ["127.0.0.1"] for number in range(3)}
    addresses = [f"http://{host}:{port}/slow-good/{number}" for host in hosts for number in range(8)]
    fetch = here(port, per_host=2, resolve=names(hosts))
    images = fetch.fetch_many([*addresses, *addresses, f"http://host0.test:{port}/gone", "x", "http://unknown.test/y"])
    assert {address for address, data in images.items() if data == RED} == set(addresses)
    assert Pages.asked.total() == 25 and Pages.most_open == 6
    assert fetch.failures == {"status 404": 1, "not an http address": 1, "unknown host": 1}
    assert fetch.report() == "fetched 24, failed 3 (not an http address 1, status 404 1, unknown host 1)"


def test_the_number_of_threads_is_limited(port: int) -> None:
    hosts = {f"host{number}.test": ["127.0.0.1"] for number in range(12)}
    fetch = here(port, workers=3, resolve=names(hosts))
    assert all(fetch.fetch_many(f"http://{host}:{port}/slow-good" for host in hosts).values())
    assert Pages.most_open == 3 and len(Pages.hosts) == 12


def test_nothing_to_fetch() -> None:
    assert Fetcher().fetch_many([]) == {} and Fetcher().report() == "fetched 0, failed 0"
