"""Types of fields that several sections of a run's configuration have."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field


def _names(value: Any) -> Any:
    """Read names separated by commas as a list, which an override can give without quotes."""
    return value.split(",") if isinstance(value, str) and not value.startswith("[") else value


NAMES = BeforeValidator(_names)
"""Of a field with a list of names."""
Part = Literal["vision", "connector", "decoder"]
Count = Annotated[int, Field(ge=1)]
Width = Annotated[int, Field(ge=1, le=2**20)]
"""Size of a dimension of a tensor."""
Depth = Annotated[int, Field(ge=1, le=1000)]
"""Number of stacked layers."""
Heads = Annotated[int, Field(ge=1, le=4096)]
Pixels = Annotated[int, Field(ge=1, le=2**14)]
Weight = Annotated[float, Field(ge=0, le=1e6)]
"""Multiplier of a loss or a rate."""
DecayRate = Annotated[float, Field(ge=0, lt=1)]
Mean = Annotated[float, Field(ge=0, le=1)]
"""Mean of pixels in 0..1."""
Deviation = Annotated[float, Field(ge=1e-3, le=1)]
"""Standard deviation of pixels in 0..1."""
