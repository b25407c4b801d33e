"""Everything that this project uses of Hera and Hera does not publish: what an upgrade of Hera may break.

``tests/unit/workflows/test_hera_private.py`` shows what each function relies on. Imports stand inside the functions, because
the command ``hera`` needs one of them and starts without the rest of Hera.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hera.workflows import Task, Workflow
    from hera.workflows.models import Arguments


def current_workflow() -> Workflow | None:
    """The workflow of the innermost ``with Workflow(...)`` block; None outside one."""
    from hera.workflows import Workflow
    from hera.workflows._context import _context

    outermost = next(iter(_context.pieces or []), None)
    return outermost if isinstance(outermost, Workflow) else None


def arguments_of(node: Workflow | Task) -> Arguments:
    """The arguments of a workflow or a task in one form; Hera accepts lists, dictionaries, parameters and models."""
    from hera.workflows.models import Arguments

    return node._build_arguments() or Arguments()


def generate_command() -> type[Any] | None:
    """Declaration of the command ``hera generate``; None where this version of Hera keeps it elsewhere."""
    try:
        from hera._cli.base import Generate
    except ImportError:
        return None
    return Generate
