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
    """Read the keys: the lines of a file (``#`` starts a comment line), otherwise the variable MM1_API_KEY.

    Args:
        file: its path; empty = none.
        environment: variables of the process.

    Raises:
        ConfigurationError: the file cannot be read, or has no key.
    """
    if not file:
        key = environment.get(VARIABLE, "").strip()
        return [key] if key else []
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise ConfigurationError(f"--api-key-file {file}: {reason}: name a file with one key per line") from None
    keys = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
    if not keys:
        raise ConfigurationError(f"--api-key-file {file}: no key in it: write one key per line")
    return keys
