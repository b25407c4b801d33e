"""What a person reads after a wrong command line: the nearest right word, and what is missing."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from typing import Any

import cappa
from rich.console import Console

WIDE = 100_000
"""Columns of a shell script or of candidates for completion: a line that is folded is another command."""
_COMMAND = re.compile(r"Invalid command '(?P<given>[^']*)'")
_OPTION = re.compile(r"Unrecognized arguments: (?P<given>--?[^ =,]+)")
_MISSING = re.compile(r"Option '(?P<name>[^']*)' requires an argument")

_CHOICE = re.compile(
    r"Invalid value for '(?P<option>[^']*)'.*Invalid choice: '(?P<given>[^']*)' \(choose from (?P<known>[^)]*)\)", re.S
)


class CommandOutput(cappa.Output):
    """cappa's output with suggestions."""

    def exit(self, e: Any, help: Any = None, short_help: Any = None) -> None:
        """Print why a command line is refused."""
        if isinstance(e.message, str):
            e.message = better_message(e.message, e.command.arguments if e.command else ())
        super().exit(e, help=help, short_help=short_help)


def output_for(argv: Sequence[str]) -> CommandOutput:
    """The output of a command line; completion scripts are written as they are."""
    if any(word.startswith("--completion") for word in argv):
        return CommandOutput(output_console=Console(file=sys.stdout, width=WIDE, no_color=True, highlight=False))
    return CommandOutput()


def better_message(message: str, arguments: Sequence[Any]) -> str:
    """A message of cappa's with the nearest right word, or with what an argument is.

    Args:
        message: for example ``Invalid command 'rnu'``.
        arguments: arguments and subcommands of the command that was called.
    """
    if match := _COMMAND.match(message):
        names = [name for argument in arguments if hasattr(argument, "names") for name in argument.names()]
        return f"unknown command {match['given']!r}{_nearest(match['given'], [name for name in names if name[0] != '-'])}"
    if match := _OPTION.match(message):
        options = [name for argument in arguments for name in _options(argument)]
        return f"unknown option {match['given']}{_nearest(match['given'], options)}"
    if match := _CHOICE.match(message):
        known = re.findall(r"'([^']*)'", match["known"])
        remark = _nearest(match["given"], known) or f"; known: {', '.join(known)}"
        return f"unknown value {match['given']!r} of {match['option']}{remark}"
    if match := _MISSING.match(message):
        argument = next((item for item in arguments if getattr(item, "value_name", None) == match["name"]), None)
        if argument is not None and not _options(argument):
            return f"{match['name'].upper()} is missing. {argument.help}"
        return f"an option has no value: expected {match['name']} after it"
    return message


def _options(argument: Any) -> list[str]:
    names = [getattr(argument, "long", None), getattr(argument, "short", None)]
    return [name for group in names if isinstance(group, list | tuple) for name in group]


def _nearest(given: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""
