"""``mm1 eval MODEL``, ``mm1 eval compare A B`` and ``mm1 eval tasks``: few-shot evaluation of any model."""

from __future__ import annotations

from dataclasses import dataclass

from cappa import Subcommands, command

from mm1_workflows.cli.commands.eval_compare import EvalCompare
from mm1_workflows.cli.commands.eval_run import EvalRun
from mm1_workflows.cli.commands.eval_tasks import EvalTasks


@command(name="eval", help="Evaluate any model, few-shot: mm1 eval MODEL; also compare and tasks.")
@dataclass
class Command:
    """``mm1 eval``; without a subcommand, ``mm1 eval MODEL`` is ``mm1 eval run MODEL``."""

    subcommand: Subcommands[EvalRun | EvalCompare | EvalTasks]
