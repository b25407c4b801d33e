"""API keys: read from a file or the environment, compared in constant time, never printed."""

from __future__ import annotations

import hmac
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from mm1.errors import ConfigurationError

VARIABLE = "MM1_API_KEY"
"""Environment variable with the key; a credential, not configuration."""


class ApiKeys:
    """Keys of which a request needs one.

    Args:
        keys: the keys; empty = everybody may send requests.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        self._digests = [sha256(key.encode()).digest() for key in keys]

    @property
    def required(self) -> bool:
        """Whether requests need a key."""
        return bool(self._digests)

    def accept(self, authorization: str) -> bool:
        """Whether the value of an Authorization header has one of the keys: ``Bearer KEY``.

        Args:
            authorization: decoded as latin-1, as HTTP headers are.
        """
        scheme, _, key = authorization.partition(" ")
        digest = sha256(key.strip().encode("latin-1")).digest()
        matches = [hmac.compare_digest(digest, other) for other in self._digests]  # all are compared
        return not self.required or (scheme.lower() == "bearer" and any(matches))


def read_api_keys(file: str, environment: Mapping[str, str] = os.environ) -> list[str]:
    """Read the keys: the lines of a file, otherwise those of the variable MM1_API_KEY; ``#`` starts a comment line.

    Args:
        file: its path; empty = none.
        environment: variables of the process.

    Raises:
        ConfigurationError: the file cannot be read, or there is no key in it.
    """
    source = f"--api-key-file {file}" if file else f"the variable {VARIABLE}"
    text = _read(file) if file else environment.get(VARIABLE, "")
    lines = [line.strip() for line in text.splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    if text and not keys:  # an empty variable is the same as none
        raise ConfigurationError(f"{source} has no key in it: write one key per line")
    return keys


def _read(file: str) -> str:
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigurationError(f"--api-key-file {file}: {reason}: name a file with one key per line") from None
    return text or "\n"  # never as if there were no file
