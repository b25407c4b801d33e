"""Addresses of stores and buckets, parsed without a client: the early checks and the step apply the same rules."""

from __future__ import annotations

import re

from mm1.config.values import FILE_SCHEME, local_path, quoted
from mm1.errors import ConfigurationError

BUCKET_SCHEME = "s3://"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NO_BUCKET = re.compile(r"\.\.|\.-|-\.|^xn--|-s3alias$|--ol-s3$|^[0-9]+(\.[0-9]+){3}$")
"""Patterns that S3 forbids in bucket names although each character is allowed."""


def scheme_of(address: str) -> str:
    """Return the scheme of an address, such as ``s3``; empty for a path."""
    match = _SCHEME.match(address)
    return match[1] if match else ""


def split_bucket(address: str) -> tuple[str, str]:
    """Split ``s3://bucket/prefix`` into bucket and prefix; the prefix may be empty.

    Raises:
        ConfigurationError: not a valid S3 bucket name.
    """
    bucket, _, prefix = address.removeprefix(BUCKET_SCHEME).partition("/")
    if not address.startswith(BUCKET_SCHEME) or not _BUCKET.fullmatch(bucket) or _NO_BUCKET.search(bucket):
        raise ConfigurationError(
            "expected s3://bucket/prefix, with a bucket name of 3 to 63 lower-case letters, digits, '-' and '.', "
            f"got {quoted(address)}"
        )
    return bucket, prefix.strip("/")


def check_store(address: str) -> None:
    """Check that an address is a valid store address.

    Raises:
        ConfigurationError: neither a folder nor a bucket, or its manifests would have addresses with spaces.
    """
    if address.startswith(BUCKET_SCHEME):
        prefix = split_bucket(address)[1]
        if any(map(str.isspace, prefix)):
            raise ConfigurationError(f"expected s3://bucket/prefix without spaces, got {quoted(address)}")
        if prefix and any(part in ("", ".", "..") for part in prefix.split("/")):  # clients resolve these differently
            raise ConfigurationError(f"expected a prefix without '//', '.' and '..', got {quoted(address)}")
    elif scheme_of(address) not in ("", FILE_SCHEME.removesuffix("://")):
        raise ConfigurationError(f"unknown scheme {scheme_of(address)!r} in {quoted(address)}; use file:// or s3://")
    else:
        try:
            local_path(address)
        except ValueError as error:
            raise ConfigurationError(f"{error}; use a folder or s3://bucket/prefix") from None


def same_store(first: str, second: str) -> bool:
    """Whether two valid addresses are those of the same store; links are followed, and nothing has to exist."""
    return _normal(first) == _normal(second)


def _normal(address: str) -> str:
    return "/".join(split_bucket(address)) if address.startswith(BUCKET_SCHEME) else str(local_path(address).resolve())
