"""How the commands write: one console, one look of tables, plain text with nothing interpreted."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

PIPE_WIDTH = 200
"""Columns when the output goes to a file or a pipe: nothing is folded there."""


def console() -> Console:
    """The console on standard output."""
    output = Console(highlight=False)
    return output if output.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def say(shown: Console, text: str) -> None:
    """Write text as it is: no markup, no colours, no line breaks of our own."""
    shown.print(text, markup=False, highlight=False, soft_wrap=True)


def count(number: int, noun: str, of: int | None = None) -> str:
    """A number and its noun: ``1 file``, ``2 files``, ``1 of 2 files``."""
    total = number if of is None else of
    return f"{number}{'' if of is None else f' of {of}'} {noun}{'s' * (total != 1)}"


def table(*columns: str) -> Table:
    """A table without lines."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def plain(text: object) -> str:
    """Text from outside, for a table's cell: brackets are no markup."""
    return escape(str(text))
