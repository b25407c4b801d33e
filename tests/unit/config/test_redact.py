"""What is redacted, and what stays readable."""

from __future__ import annotations

import pytest

from mm1.errors import redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("GET https://me:pa%40ss@host/a?b=c failed", "GET https://***@host/a?b=c failed"),
        ("s3://bucket/a?X-Amz-Signature=ab12&X-Amz-Date=1", "s3://bucket/a?X-Amz-Signature=***&X-Amz-Date=1"),
        ("https://h/a?token=abc'", "https://h/a?token=***'"),
        ("{'Authorization': 'Bearer abc.def-ghi='}", "{'Authorization': 'Bearer ***'}"),
        ("store s3://bucket/prefix denied access", "store s3://bucket/prefix denied access"),
        ("mail me@example.org about mm1@1a2b3c4d5e6f, 300 tokens", "mail me@example.org about mm1@1a2b3c4d5e6f, 300 tokens"),
    ],
)
def test_headers_and_addresses(text, expected):
    assert redact(text) == expected


@pytest.mark.parametrize(
    ("name", "value", "is_secret"),
    [
        ("AWS_SECRET_ACCESS_KEY", "abcdefgh", True),
        ("DB_PASSWORD", "correct horse", True),
        ("MM1_NOTIFY_URL", "https://hooks.example/T0/B0", True),
        ("MM1_API_KEY", "first-key", True),
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token", False),
        ("TOKENIZERS_PARALLELISM", "everywhere", False),
        ("AWS_SECRET_ACCESS_KEY", "short", False),
        ("AWS_REGION", "eu-central-1", False),
    ],
)
def test_variables_of_the_environment(monkeypatch, name, value, is_secret):
    monkeypatch.setenv(name, value)
    assert redact(f"with <{value}>") == ("with <***>" if is_secret else f"with <{value}>")


def test_each_key_of_several_and_the_longest_first(monkeypatch):
    monkeypatch.setenv("MM1_API_KEY", "first-key\nfirst-key-and-more\n")
    assert redact("first-key, first-key-and-more") == "***, ***"
