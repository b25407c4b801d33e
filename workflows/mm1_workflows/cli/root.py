"""The root commands ``mm1`` and ``hera``: ``mm1 X`` is the class ``Command`` of :mod:`mm1_workflows.cli.commands.X`.

A command declares its options as fields and runs when it is called. A command line with a valid command only imports that
command; help, completion and invalid commands import all of them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import or_
from typing import Any

from cappa import Subcommands, command

from mm1_workflows.authoring import hera_private
from mm1_workflows.cli import commands

NAMES = (
    *("run", "submit", "watch", "logs", "stop", "retry", "open"),
    *("compile", "lint", "runs", "compare", "lessons", "lr-fit", "verify", "lineage", "data", "export", "pin", "gc"),
    *("eval", "serve", "rollout", "doctor", "recipes", "plan"),
)
"""All commands, in the order of the help."""
EVAL_SUBCOMMANDS = ("run", "compare", "tasks")


def completed(argv: Sequence[str]) -> list[str]:
    """Add the subcommand that may be left out: ``mm1 eval MODEL`` is ``mm1 eval run MODEL``."""
    first = argv[1] if len(argv) > 1 and argv[0] == "eval" else "run"
    is_request = first in ("-h", "--help") or first.startswith("--completion")
    return [*argv] if first in EVAL_SUBCOMMANDS or is_request else ["eval", "run", *argv[1:]]


def mm1(argv: Sequence[str]) -> type[Any]:
    """Return the root of ``mm1`` for a command line."""
    names = NAMES if not argv or argv[0] not in NAMES else argv[:1]
    return _root("mm1", "MM1: multimodal pre-training from raw data to a served model.", [_command(name) for name in names])


def hera() -> type[Any]:
    """Return the root of ``hera``: Hera's ``generate``, if this version has it, and ``submit`` of this project."""
    generate = hera_private.generate_command()
    return _root("hera", "The commands of Hera, and submit.", [*([generate] if generate else []), _command("submit")])


def _command(name: str) -> type[Any]:
    declaration: type[Any] = importlib.import_module(f"{commands.__name__}.{name.replace('-', '_')}").Command
    return declaration


def _root(name: str, text: str, members: list[type[Any]]) -> type[Any]:
    @command(name=name, help=text)
    @dataclass
    class Root:
        subcommand: Any

    Root.__annotations__["subcommand"] = Subcommands[reduce(or_, members)]  # type: ignore[misc] # known at run time only
    return Root
