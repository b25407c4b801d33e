"""The base class of every configuration section.

Sections are pydantic models, frozen and closed: an unknown field is an error, not a surprise. Each room keeps its sections in
its own ``config.py``; this room holds only the machinery (:mod:`mm1.config.resolve`).
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A section of configuration: immutable, closed, every field documented with its unit."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, protected_namespaces=())
