"""Shell completion.

``mm1 --completion generate`` prints a script for the shell of ``$SHELL``, which calls ``mm1 --completion=complete``. The latter
prints candidates or nothing, never an error, because it runs in the middle of a command line.
"""

from __future__ import annotations

import io
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from cappa import Completion, collect
from cappa.subcommand import FinalSubcommand

from mm1_workflows.cli.options import FromLine, Given, PathCompletion, complete_path

REQUEST = "--completion=complete"
BASH = r"""_PROGRAM_completion() {
    local reply=()
    mapfile -t reply < <(
        COMPLETION_SHELL=bash COMPLETION_BREAKS="$COMP_WORDBREAKS" COMPLETION_LINE="${COMP_LINE:0:COMP_POINT}" \
        "${1/#\~\//$HOME/}" --completion=complete 2>/dev/null
    )
    [[ ${reply[0]-} == paths ]] && compopt -o filenames
    [[ ${reply[0]-} == names ]] && compopt -o nospace
    COMPREPLY=("${reply[@]:1}")
}
complete -o nosort -F _PROGRAM_completion PROGRAM
"""
"""The script for bash; Readline quotes paths and marks folders."""
PATHS = re.compile(r"FILE|FOLDER|URI", re.IGNORECASE)
"""Value names of arguments that may be paths."""


def script(argv: Sequence[str], program: str) -> str:
    """Return the script of ``--completion generate`` for bash; empty for other command lines and other shells."""
    is_requested = " ".join(argv) in ("--completion generate", "--completion=generate")
    return BASH.replace("PROGRAM", program) if is_requested and Path(os.environ.get("SHELL", "bash")).name == "bash" else ""


def respond(commands: Callable[[Sequence[str]], type[Any]], names: Sequence[str] = ()) -> None:
    """Print the candidates for the command line in the environment, in the format of the script.

    Args:
        commands: returns the class of the commands that a command line can mean.
        names: names of all commands, if they are known without importing them.
    """
    bash = os.environ.get("COMPLETION_SHELL") == "bash"
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            argv, cut = split(os.environ.get("COMPLETION_LINE", ""), os.environ.get("COMPLETION_BREAKS", "") if bash else "")
            answers = [item for item in _matches(commands, names, argv[1:]) if "\n" not in str(item.value)]
            lines = [f"{(item.value or '').replace(':', chr(92) + ':')}:{item.help or ''}" for item in answers]
            if bash:
                lines = [_kind(answers), *((item.value or "")[cut:] for item in answers)]
        sys.stdout.write("".join(f"{line}\n" for line in lines))
    except (Exception, SystemExit):  # noqa: BLE001 - no traceback in the middle of a command line
        return


def _matches(commands: Callable[[Sequence[str]], type[Any]], names: Sequence[str], argv: list[str]) -> list[Completion]:
    if names and len(argv) == 1 and not argv[0].startswith("-"):
        return [Completion(name) for name in names if name.startswith(argv[0])]
    return candidates(commands(argv[:-1]), argv)


def _kind(answers: Sequence[Completion]) -> str:
    """Return how bash treats the answers: as paths, as names that a value follows without a space, or as words."""
    if any(isinstance(item, PathCompletion) for item in answers):
        return "paths"
    return "names" if any((item.value or "").endswith("=") for item in answers) else "words"


def split(line: str, breaks: str) -> tuple[list[str], int]:
    """Split a line into unquoted words; the last one is being typed, and may be empty or have an open quote.

    Returns:
        The words, and the length of the last word's prefix that the shell treats as separate words (up to its last ``breaks``).
    """
    argv, word, cut, quote, started = [], "", 0, "", False
    characters = iter(line)
    for character in characters:
        if character == "\\" and quote != "'":
            word += next(characters, "")
        elif quote or character in "'\"":
            quote, word = _in_quotes(character, quote, word)
        elif character.isspace():
            argv += [word] if started else []
            word, cut, started = "", 0, False
            continue
        else:
            word += character
            cut = len(word) if character in breaks else cut
        started = True
    return [*argv, word], cut


def _in_quotes(character: str, quote: str, word: str) -> tuple[str, str]:
    if not quote:
        return character, word
    return ("", word) if character == quote else (quote, word + character)


def candidates(root: type[Any], argv: Sequence[str]) -> list[Completion]:
    """Return the candidates for the last of the words.

    Args:
        root: the class of the commands.
        argv: words without the program; the last one is being typed.
    """
    *before, partial = argv
    command: Any = collect(root)
    arguments, waiting, options_end = deque(command.positional_arguments), None, False
    given: Given = {}
    for word in before:
        if waiting is not None:
            given[waiting.field_name] = word
            waiting = None
        elif word == "--" and not options_end:
            options_end = True
        elif word.startswith("-") and word != "-" and not options_end:
            name, equals, value = word.partition("=")
            waiting = _taker(command, name)
            given[waiting.field_name if waiting is not None else name.strip("-")] = value
            waiting = None if equals else waiting
        elif arguments and isinstance(arguments[0], FinalSubcommand):
            if word not in arguments[0].options:
                return []
            command = arguments[0].options[word]
            arguments = deque(command.positional_arguments)
        elif arguments:
            given[arguments[0].field_name] = word
            if arguments[0].num_args.n == 1:
                arguments.popleft()
    if waiting is not None:
        return _values(waiting, partial, given)
    if partial.startswith("-") and not options_end:
        return _options(command, partial, given)
    if arguments and isinstance(arguments[0], FinalSubcommand):
        return [Completion(name) for name in arguments[0].names() if name.startswith(partial)]
    return _values(arguments[0], partial, given) if arguments else []


def _names(option: Any) -> list[str]:
    return [name for names in (option.long, option.short) if names for name in names]


def _taker(command: Any, word: str) -> Any:
    """Return the option whose value is the next word; None if it has no value, or has it already."""
    option = next((option for option in command.options if word in _names(option)), None)
    return option if option is not None and option.num_args.n != 0 else None


def _options(command: Any, partial: str, given: Given) -> list[Completion]:
    name, equals, value = partial.partition("=")
    if equals:
        option = _taker(command, name)
        values = _values(option, value, given) if option is not None else []
        return [type(item)(f"{name}={item.value}", help=item.help) for item in values]
    return [Completion(name) for option in command.options for name in _names(option) if name.startswith(partial)]


def _values(argument: Any, partial: str, given: Given) -> list[Completion]:
    if argument.completion is None:
        return complete_path(partial) if PATHS.search(str(argument.value_name)) else []
    complete = argument.completion
    items = complete.candidates(partial, given) if isinstance(complete, FromLine) else complete(partial)
    return [item for item in items if (item.value or "").startswith(partial)]
