"""Redaction: no credential in a log, a traceback, a run record or an error message, whatever a library put into it.

Texts pass through :func:`redact` where they leave the process: the formatters of :mod:`mm1.monitoring.logs`, and
:class:`mm1.errors.Ending`, from which records and exit messages are made.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from urllib.parse import quote, quote_plus, urlsplit

SECRET_NAME = re.compile(
    r"(password|passwd|passphrase|secret(?![-_]name)|(?<![a-z])token(?![a-z])|api[-_]?key|access[-_]?key|credential)",
    re.IGNORECASE,
)
"""Names of variables, arguments and parameters whose values are credentials."""
SECRET_VALUE = re.compile(r"(AKIA[0-9A-Z]{16}|ghp_\w{36}|hf_\w{30,}|-----BEGIN [A-Z ]*PRIVATE KEY|://[^/\s:@]+:[^/\s:@]+@)")
"""Values that are credentials, whatever their name."""
SECRET_ADDRESSES = ("MM1_NOTIFY_URL",)
"""Variables with an address that is a credential itself."""
MASK = "***"
MIN_CHARACTERS = 8
"""Shorter values are not searched for: they are parts of ordinary words."""
_LOCATION = re.compile(r"_(FILE|PATH|DIR|URI|URL|ENDPOINT)$")
"""Variables with the place of a credential, which is none."""
_HEADER = re.compile(r"\b(basic|bearer)\s+[\w+/=.~-]{8,}", re.IGNORECASE)
_USER_INFO = re.compile(r"(?<=://)[^/\s@'\"]+@")
_QUERY = re.compile(r"(?<=[?&])([^=&\s]*(?:signature|sig|token|password|secret|credential|api_?key)[^=&\s]*=)[^&\s'\"]+", re.I)


def redact(text: str) -> str:
    """Replace the credentials in a text: those of this process's environment, and those in headers and addresses.

    Args:
        text: a message or a traceback.

    Returns:
        The text with ``***`` for values of variables with the name of a credential (plain, in JSON, URL-encoded, in Base64), in
        an Authorization header, for user and password in an address (``https://user:password@host``), and for a signature or
        token in its query.
    """
    for value in _values():
        for form in (value, json.dumps(value)[1:-1], quote(value), quote(value, safe=""), quote_plus(value), _base64(value)):
            text = text.replace(form, MASK)
    text = _HEADER.sub(rf"\1 {MASK}", text)
    return _QUERY.sub(rf"\1{MASK}", _USER_INFO.sub(f"{MASK}@", text)) if "://" in text else text


def _values() -> list[str]:
    """Return the credentials in the environment, the longest first."""
    values = [line.strip() for name, value in os.environ.items() for line in _credentials(name, value)]
    return sorted({value for value in values if len(value) >= MIN_CHARACTERS}, key=len, reverse=True)


def _credentials(name: str, value: str) -> Iterator[str]:
    """Yield the credentials in a variable: a file of keys has one per line, and clients name an address without its host."""
    if name in SECRET_ADDRESSES:
        yield from (value, urlsplit(value).path)
    elif SECRET_NAME.search(name) and not _LOCATION.search(name):
        yield from value.splitlines()


def _base64(value: str) -> str:
    return base64.b64encode(value.encode(errors="surrogateescape")).decode()
