"""Workflows of MM1. Workflow files only need one import: ``from mm1_workflows import steps``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mm1_workflows.authoring import steps

__all__ = ["steps"]


def __getattr__(name: str) -> Any:
    """Import ``steps`` on first use, because it imports Hera, which most commands do not need."""
    if name != "steps":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mm1_workflows.authoring import steps

    return steps
