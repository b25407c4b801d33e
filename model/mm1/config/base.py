"""The base class of every configuration section.

Sections are pydantic models, frozen and closed: an unknown field is an error, not a surprise. Each room keeps its sections in
its own ``config.py``; this room holds only the machinery (:mod:`mm1.config.resolve`).
"""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticKnownError

INT64_MAX = 2**63 - 1
"""The largest whole number that torch, numpy and a file's header can hold."""


class Config(BaseModel):
    """A section of configuration: immutable, closed, every field documented with its unit.

    Numbers are numbers: finite, of 64 bits where they are whole, and neither true nor false.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, protected_namespaces=()
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_value_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        kind = cls.model_fields[info.field_name or ""].annotation
        items = value if isinstance(value, list | tuple) else [value]
        if any(isinstance(item, bool) for item in items) and not _holds(kind, bool):
            raise PydanticKnownError(
                "float_type" if _holds(kind, float) else "int_type" if _holds(kind, int) else "string_type"
            )
        return value

    @field_validator("*")
    @classmethod
    def _of_64_bits(cls, value: Any) -> Any:
        if isinstance(value, int) and value > INT64_MAX:
            raise PydanticKnownError("less_than_equal", {"le": INT64_MAX})
        if isinstance(value, int) and value < -INT64_MAX:
            raise PydanticKnownError("greater_than_equal", {"ge": -INT64_MAX})
        return value


def _holds(annotation: Any, kind: type) -> bool:
    """Whether a type is of a kind, or made of some that are."""
    if annotation in (Any, kind) or type(annotation) is kind:  # the last one: a choice of a Literal
        return True
    return any(_holds(part, kind) for part in get_args(annotation))
