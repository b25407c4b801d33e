"""The roots of ``mm1`` and ``hera``: a command ``mm1 X`` is the class ``Command`` of :mod:`mm1_workflows.cli.commands.X`.

A command declares its options as fields and does its work when it is called. A command line that names a command imports that
one only; help, completion and a wrong command need them all.
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
    *("compile", "lint", "runs", "compare", "lineage", "data", "export", "pin", "gc"),
    *("serve", "doctor", "recipes", "plan"),
)
"""All commands, in the order of the help."""


def mm1(words: Sequence[str]) -> type[Any]:
    """The root of ``mm1`` for a command line."""
    names = NAMES if not words or words[0] not in NAMES else words[:1]
    return _root("mm1", "MM1: multimodal pre-training from raw data to a served model.", [_command(name) for name in names])


def hera() -> type[Any]:
    """The root of ``hera``: upstream's ``generate``, where it is still in its place, and our ``submit``."""
    generate = hera_private.generate_command()
    return _root("hera", "Hera's commands, and submit.", [*([generate] if generate else []), _command("submit")])


def _command(name: str) -> type[Any]:
    declared: type[Any] = importlib.import_module(f"{commands.__name__}.{name}").Command
    return declared


def _root(name: str, text: str, members: list[type[Any]]) -> type[Any]:
    @command(name=name, help=text)
    @dataclass
    class Root:
        subcommand: Any

    Root.__annotations__["subcommand"] = Subcommands[reduce(or_, members)]  # type: ignore[misc] # known at run time only
    return Root
