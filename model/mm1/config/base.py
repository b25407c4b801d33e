"""The base class of every configuration section.

Sections are frozen pydantic models that forbid unknown fields. Each package keeps its sections in its own ``config.py``;
this package holds only the machinery (:mod:`mm1.config.resolve`).
"""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

INT64_MAX = 2**63 - 1
"""Largest integer that torch, numpy and file headers can hold."""


class Config(BaseModel):
    """A configuration section: immutable, without extra fields, every field documented with its unit.

    Numbers must be finite, integers must fit 64 bits, and booleans are not accepted as numbers.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _reject_booleans_as_numbers(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        items = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, bool) for item in items) and not _holds(kind, bool):
            raise PydanticKnownError(
                "float_type" if _holds(kind, float) else "int_type" if _holds(kind, int) else "string_type"
            )
        return value

    @field_validator("*")
    @classmethod
    def _fit_64_bits(cls, value: Any) -> Any:
        if isinstance(value, int) and value > INT64_MAX:
            raise PydanticKnownError("less_than_equal", {"le": INT64_MAX})
        if isinstance(value, int) and value < -INT64_MAX:
            raise PydanticKnownError("greater_than_equal", {"ge": -INT64_MAX})
        return value


def _holds(annotation: Any, kind: type) -> bool:
    """Whether a type annotation is ``kind`` or contains it."""
    if annotation in (Any, kind) or type(annotation) is kind:  # the last case: a value of a Literal
        return True
    return any(_holds(part, kind) for part in get_args(annotation))
