"""All uses of Hera's private API, which an upgrade of Hera may break.

``tests/unit/workflows/test_hera_private.py`` tests what each function relies on. Imports are inside the functions, because
the command ``hera`` only needs one of them and starts without the rest of Hera.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hera.workflows import Task, Workflow
    from hera.workflows.models import Arguments


def current_workflow() -> Workflow | None:
    """Return the workflow of the innermost ``with Workflow(...)`` block; None outside of one."""
    from hera.workflows import Workflow
    from hera.workflows._context import _context

    outermost = next(iter(_context.pieces or []), None)
    return outermost if isinstance(outermost, Workflow) else None


def arguments_of(node: Workflow | Task) -> Arguments:
    """Return the arguments of a workflow or task as a model; Hera accepts lists, dictionaries, parameters and models."""
    from hera.workflows.models import Arguments

    return node._build_arguments() or Arguments()


def generate_command() -> type[Any] | None:
    """Return the declaration of the command ``hera generate``; None if this version of Hera keeps it elsewhere."""
    try:
        from hera._cli.base import Generate
    except ImportError:
        return None
    return Generate
