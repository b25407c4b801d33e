"""A bucket without keys in the environment: the identities that a platform gives a pod, and what is said without any."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from mm1.errors import ConfigurationError, NetworkError
from mm1.store import credentials
from mm1.store.s3 import S3Store
from tests.support.s3_server import s3_server

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as monkeypatch, s3_server(monkeypatch, "identity-tests") as uri:
        yield uri


@pytest.fixture(autouse=True)
def no_keys(bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", *credentials.IDENTITIES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", NOBODY)
    monkeypatch.setattr(credentials, "AGENT_RETRIES", 0)
    monkeypatch.setattr(credentials, "METADATA_RETRIES", 0)


@contextmanager
def agent(valid_s: float = 3600, status: int = 200) -> Iterator[tuple[str, list[str]]]:
    """An agent as that of EKS Pod Identity, and STS; gives its address, and the tokens that it was sent."""
    tokens: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["Authorization"])
            self.reply(json.dumps(self.keys("Token")))

        def do_POST(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            tokens.extend([*query["WebIdentityToken"], *query["RoleArn"]])
            (action,) = query["Action"]
            fields = "".join(f"<{name}>{value}</{name}>" for name, value in self.keys("SessionToken").items())
            result = f"<{action}Result><Credentials>{fields}</Credentials></{action}Result>"
            self.reply(f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">{result}</{action}Response>')

        def keys(self, token: str) -> dict[str, str]:
            end = (datetime.now(UTC) + timedelta(seconds=valid_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
            return {"AccessKeyId": "ASIAX", "SecretAccessKey": "s", token: "t", "Expiration": end}

        def reply(self, text: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1/credentials", tokens
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def pod_identity(monkeypatch, tmp_path):
    """Give this process the variables of EKS Pod Identity for an agent's address."""
    (tmp_path / "token").write_text("of-the-pod")
    monkeypatch.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    return lambda address: monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", address)


def test_pod_identity_of_eks(bucket, pod_identity):
    with agent() as (address, tokens):
        pod_identity(address)
        store = S3Store(f"{bucket}/pod")
        ref = store.put_bytes(b"hello")
        assert store.get_bytes(ref) == b"hello"
    assert tokens == ["of-the-pod"]


def test_credentials_that_expire_are_fetched_again(bucket, pod_identity):
    with agent(valid_s=5) as (address, tokens):
        pod_identity(address)
        store = S3Store(f"{bucket}/short")
        store.write("a", b"1")
        assert store.read("a") == b"1"
    assert len(tokens) > 1


def test_role_of_a_service_account(bucket, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("projected")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/mm1")
    with agent() as (address, tokens):
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", address)
        store = S3Store(f"{bucket}/role")
        store.write("a", b"1")
        assert store.read("a") == b"1"
    assert tokens == ["projected", "arn:aws:iam::123456789012:role/mm1"]


def test_an_identity_that_is_refused_is_configuration_without_the_token(bucket, pod_identity):
    with agent(status=403) as (address, _):
        pod_identity(address)
        with pytest.raises(
            ConfigurationError, match=r"no credentials: the identity of AWS_CONTAINER.* check the role"
        ) as caught:
            S3Store(bucket).read("a")
    assert "of-the-pod" not in str(caught.value)


def test_an_agent_that_does_not_answer_is_a_network_error(bucket, pod_identity):
    pod_identity(f"{NOBODY}/v1/credentials")
    with pytest.raises(NetworkError, match=r"no credentials: the identity of .* \(networkPolicy\.identity"):
        S3Store(bucket).read("a")


def test_neither_keys_nor_identity_is_configuration(bucket):
    with pytest.raises(ConfigurationError, match="no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give"):
        S3Store(bucket).read("a")
