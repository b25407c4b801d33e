"""Messages for invalid command lines, with suggestions and missing arguments."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import cappa
from rich.console import Console

WIDE = 100_000
"""Width of completion scripts and candidates, whose lines must not be folded."""
_COMMAND = re.compile(r"Invalid command '(?P<given>[^']*)'")
_OPTION = re.compile(r"Unrecognized arguments: (?P<given>--?[^ =,]+)")
_MISSING = re.compile(r"Option '(?P<name>[^']*)' requires an argument")

_CHOICE = re.compile(
    r"Invalid value for '(?P<option>[^']*)'.*Invalid choice: '(?P<given>[^']*)' \(choose from (?P<known>[^)]*)\)", re.S
)


class CommandOutput(cappa.Output):
    """cappa's output with suggestions."""

    def __init__(self, argv: Sequence[str] = (), **consoles: Any) -> None:
        super().__init__(**consoles)
        self.argv = argv

    def exit(self, e: Any, help: Any = None, short_help: Any = None) -> None:
        """Print why a command line is invalid."""
        if isinstance(e.message, str):
            e.message = better_message(e.message, e.command.arguments if e.command else (), self.argv)
        super().exit(e, help=help, short_help=short_help)


def output_for(argv: Sequence[str]) -> CommandOutput:
    """Return the output for a command line; completion scripts are not formatted."""
    if any(word.startswith("--completion") for word in argv):
        return CommandOutput(output_console=Console(file=sys.stdout, width=WIDE, no_color=True, highlight=False))
    return CommandOutput(argv)


def better_message(message: str, arguments: Sequence[Any], argv: Sequence[str] = ()) -> str:
    """Improve a message of cappa with a suggestion or with the description of an argument.

    Args:
        message: for example ``Invalid command 'rnu'``.
        arguments: arguments and subcommands of the command.
        argv: the command line.
    """
    if match := _COMMAND.match(message):
        names = [name for argument in arguments if hasattr(argument, "names") for name in argument.names()]
        return f"unknown command {match['given']!r}{_nearest(match['given'], [name for name in names if name[0] != '-'])}"
    if match := _OPTION.match(message):
        options = [name for argument in arguments for name in _options(argument)]
        return f"unknown option {match['given']}{_nearest(match['given'], options)}"
    if match := _CHOICE.match(message):
        known = re.findall(r"'([^']*)'", match["known"])
        suggestion = _nearest(match["given"], known)
        return f"{match['option']}: expected one of {', '.join(known)}, got {match['given']!r}{suggestion}"
    if match := _MISSING.match(message):
        argument = next((item for item in arguments if getattr(item, "value_name", None) == match["name"]), None)
        if argument is not None and not _options(argument):
            return f"missing argument {match['name'].upper()}. {argument.help}"
        return f"missing value of {_without_value(match['name'], arguments, argv)}: expected {match['name']}"
    return message


def _without_value(value_name: str, arguments: Sequence[Any], argv: Sequence[str]) -> str:
    """Return the option of the command line that has no value, among those whose value has this name."""
    options = [name for item in arguments if getattr(item, "value_name", None) == value_name for name in _options(item)]
    pairs = pairwise([*argv, "-"])
    return next((word for word, following in pairs if word in options and following.startswith("-")), "an option")


def _options(argument: Any) -> list[str]:
    names = [getattr(argument, "long", None), getattr(argument, "short", None)]
    return [name for group in names if isinstance(group, list | tuple) for name in group]


def _nearest(given: str, known: Sequence[str]) -> str:
    matches = difflib.get_close_matches(given, known, n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
