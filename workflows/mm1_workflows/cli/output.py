"""Output of the commands: the console, tables, and plain text without markup."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPE_WIDTH = 200
"""Width of the output in a file or a pipe, where lines are not folded."""


def console() -> Console:
    """Return the console for standard output."""
    output = Console(highlight=False)
    return output if output.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def say(output: Console, text: str) -> None:
    """Print text without markup, colours or additional line breaks."""
    output.print(text, markup=False, highlight=False, soft_wrap=True)


def count(number: int, noun: str, of: int | None = None) -> str:
    """Format a number with its noun: ``1 file``, ``2 files``, ``1 of 2 files``."""
    total = number if of is None else of
    return f"{number}{'' if of is None else f' of {of}'} {noun}{'s' * (total != 1)}"


def table(*columns: str) -> Table:
    """Return a table without borders."""
    result = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for column in columns:
        result.add_column(column, overflow="fold")
    return result


def plain(text: object) -> str:
    """Escape text for a table's cell, so that brackets are not markup."""
    return escape(str(text))
