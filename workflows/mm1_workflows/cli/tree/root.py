"""The roots of ``mm1`` and ``hera``: what can be typed, with its help.

Declarations only. They are spread over small files because cappa reads the source of each class's file for help.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cappa import Subcommands, command

from mm1_workflows.cli.tree.building import Compile, Lint
from mm1_workflows.cli.tree.cluster import Logs, Open, Retry, Stop, Watch
from mm1_workflows.cli.tree.data import Data
from mm1_workflows.cli.tree.looking import Compare, Gc, Lineage, Runs
from mm1_workflows.cli.tree.running import Run, Submit
from mm1_workflows.cli.tree.setting import Doctor, Plan, Recipes, Serve


@command(name="mm1", help="MM1: multimodal pre-training from raw data to a served model.")
@dataclass
class Mm1:
    """The root of ``mm1``."""

    subcommand: Subcommands[
        Run
        | Submit
        | Watch
        | Logs
        | Stop
        | Retry
        | Open
        | Compile
        | Lint
        | Runs
        | Compare
        | Lineage
        | Data
        | Gc
        | Serve
        | Doctor
        | Recipes
        | Plan
    ]


@command(name="hera", help="Hera's commands, and submit.")
@dataclass
class HeraSubmitOnly:
    """The root of ``hera`` when upstream's command tree is not where it was."""

    subcommand: Subcommands[Submit]


def hera_with(generate: type[Any]) -> type[Any]:
    """The root of ``hera``: upstream's ``generate`` and our ``submit``."""

    @command(name="hera", help="Hera's commands, and submit.")
    @dataclass
    class Hera:
        """The root of ``hera``."""

        subcommand: Any

    Hera.__annotations__["subcommand"] = Subcommands[generate | Submit]  # type: ignore[valid-type, misc] # known at run time only
    return Hera
