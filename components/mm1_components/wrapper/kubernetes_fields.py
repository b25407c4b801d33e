"""Types of configuration fields that become part of a Kubernetes object, validated like the API server does."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator

from mm1.config.values import quoted
from mm1.errors import ConfigurationError
from mm1.store.address import check_store, split_bucket

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_QUALIFIED = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_QUANTITY = re.compile(r"(?P<number>\d+(\.\d+)?|\.\d+)(?P<suffix>[numkMGTPE]|[KMGTPE]i|[eE][-+]?\d+)?", re.ASCII)
_POWERS = {"n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {f"{letter}i": 1024.0**power for power, letter in enumerate("KMGTPE", 1)}


def quantity(text: str) -> float:
    """Parse a Kubernetes quantity into a number, for example ``2Gi`` into bytes.

    Raises:
        ValueError: the text is not a quantity.
    """
    match = _QUANTITY.fullmatch(text)
    if not match:
        raise ValueError(f"expected a quantity such as 500m, 2Gi or 1.5e9, got {quoted(text)}")
    suffix = match["suffix"] or ""
    factor = _POWERS.get(suffix) or _BINARY.get(suffix) or (float(f"1{suffix}") if suffix else 1.0)
    return float(match["number"]) * factor


def _matching(pattern: str, what: str, limit: int) -> Callable[[str], str]:
    expression = re.compile(pattern, re.ASCII)

    def check(text: str) -> str:
        if not expression.fullmatch(text) or len(text) > limit:
            raise ValueError(f"expected {what} of at most {limit} characters, got {quoted(text)}")
        return text

    return check


def _positive(text: str) -> str:
    if not 0 < quantity(text) < math.inf:
        raise ValueError(f"expected a quantity above 0, got {quoted(text)}")
    return text


def _bucket_store(text: str) -> str:
    try:
        split_bucket(text)
        check_store(text)
    except ConfigurationError as error:
        raise ValueError(str(error)) from None
    return text


Quantity = Annotated[str, AfterValidator(_positive)]
"""An amount of a resource: 500m, 2Gi."""
ObjectName = Annotated[str, AfterValidator(_matching(_SUBDOMAIN, "a name of lower-case letters, digits, '-' and '.'", 253))]
"""Name of an object: a DNS-1123 subdomain."""
OptionalName = Annotated[
    str, AfterValidator(_matching(f"({_SUBDOMAIN})?", "a name of lower-case letters, digits, '-' and '.', or nothing,", 253))
]
"""Name of an object, or empty."""
LabelKey = Annotated[
    str, AfterValidator(_matching(rf"({_SUBDOMAIN}/)?{_QUALIFIED}", "a label's key such as example.org/pool", 317))
]
"""Key of a label, a taint or an extended resource."""
LabelValue = Annotated[
    str, AfterValidator(_matching(f"({_QUALIFIED})?", "a label's value of letters, digits, '-', '_' and '.'", 63))
]
"""Value of a label or a taint."""
VariableName = Annotated[str, AfterValidator(_matching(r"[A-Za-z_][A-Za-z0-9_]*", "a name of an environment variable", 255))]
"""Name of an environment variable, as accepted by a shell."""
MountPath = Annotated[str, AfterValidator(_matching(r"/[^:]*", "an absolute path without a colon", 4096))]
"""Path at which a volume is mounted in a container."""
ImageName = Annotated[
    str,
    AfterValidator(
        _matching(
            r"[a-z0-9][\w.-]*(:\d+)?(/[a-z0-9._-]+)*(:[\w.-]{1,128})?(@sha256:[0-9a-f]{64})?",
            "an image such as registry.example.org/mm1/cpu@sha256:...",
            512,
        )
    ),
]
"""An image with its registry, and a tag or a digest."""
StoreAddress = Annotated[str, AfterValidator(_bucket_store)]
"""Address of a store that pods write to. It must be in a bucket, because claims are mounted read-only."""
