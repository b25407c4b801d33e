"""Workflows of MM1. Authors of workflow files import one thing from here: ``from mm1_workflows import steps``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mm1_workflows.authoring import steps

__all__ = ["steps"]


def __getattr__(name: str) -> Any:
    """``steps``, imported when it is used: it brings hera along, which most commands do without."""
    if name != "steps":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mm1_workflows.authoring import steps

    return steps
