"""Output of the commands: the console, tables, and plain text without markup."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape

from mm1_workflows.display.listing import Listing

PIPE_WIDTH = 200
"""Width of the output in a file or a pipe, where lines are not folded."""


def console() -> Console:
    """Return the console for standard output."""
    output = Console(highlight=False)
    return output if output.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def say(output: Console, text: str) -> None:
    """Print text without markup, colours or additional line breaks."""
    output.print(text, markup=False, highlight=False, soft_wrap=True)


def table(*columns: str, less_important: Sequence[str] = ()) -> Listing:
    """Return a table without borders; a narrow terminal omits the less important columns, first the least important one."""
    return Listing(*columns, less_important=less_important)


def plain(text: object) -> str:
    """Escape text for a table's cell, so that brackets are not markup."""
    return escape(str(text))
