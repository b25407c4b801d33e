"""Options of the server that can be wrong: origins, hosts of images, API keys, the address to listen on."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mm1.errors import ConfigurationError, Outcome
from mm1.serve.__main__ import main
from mm1.serve.api.keys import VARIABLE, read_api_keys
from mm1.serve.config import ServeSettings
from mm1.serve.server import bind


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"cors_origins": ["https://Chat.example.com/", "*"]}, ("https://chat.example.com", "*")),
        ({"cors_origins": ["chat.example.com"]}, None),
        ({"cors_origins": ["https://*.example.com"]}, None),
        ({"cors_origins": ["https://a.org/path"]}, None),
        ({"image_hosts": ["*.example.com", "a-b.org", "*"]}, ("*.example.com", "a-b.org", "*")),
        ({"image_hosts": ["https://a.org"]}, None),
        ({"image_hosts": ["a.org:443"]}, None),
        ({"image_hosts": ["a.*"]}, None),
    ],
    ids=str,
)
def test_an_origin_or_host_that_never_matches_is_refused_at_the_start(settings, expected):
    if expected is None:
        with pytest.raises(ValidationError, match="such as"):
            ServeSettings(**settings)
    else:
        assert [getattr(ServeSettings(**settings), name) for name in settings] == [expected]


@pytest.mark.parametrize(
    ("text", "keys"), [("a", ["a"]), (" a \n# old\n\nb\n", ["a", "b"]), ("\ufeffa\r\n", ["a"]), ("# none", None), ("  ", None)]
)
def test_keys_are_the_same_lines_from_a_file_and_from_the_variable(tmp_path, text, keys):
    file = tmp_path / "keys"
    file.write_text(text, encoding="utf-8", newline="")
    sources = [(str(file), {}), *([("", {VARIABLE: text})] if text[0] != "\ufeff" else [])]
    for path, variables in sources:
        if keys is None:  # never an open server because of an empty Secret
            with pytest.raises(ConfigurationError, match="no key"):
                read_api_keys(path, variables)
        else:
            assert read_api_keys(path, variables) == keys
    assert read_api_keys("", {}) == read_api_keys("", {VARIABLE: ""}) == []
    file.write_text("")
    with pytest.raises(ConfigurationError, match="no key"):
        read_api_keys(str(file), {})


@pytest.mark.parametrize(("host", "port"), [("127.0.0.1", 65536), ("127.0.0.1", -1), ("a" * 70, 0), ("a..b", 0)])
def test_an_address_that_cannot_be_listened_on_is_named(host, port):
    with pytest.raises(ConfigurationError, match=f"cannot listen on {host}:{port}: .*: choose another"):
        bind(host, port)


def test_a_pod_without_a_promoted_model_says_so(caplog):
    assert main(["--model=", "--port=0"]) == Outcome.CONFIGURATION
    assert "no model has been promoted yet: mm1 rollout promote" in caplog.text
