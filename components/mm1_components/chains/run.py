"""Running a chain within a task: its stages in order, each from the step cache or by the step itself."""

from __future__ import annotations

import json
import logging

from mm1.errors import ConfigurationError
from mm1.manifests import Cell, StudyPlan
from mm1.studies.chains import EVALUATE, sources_of
from mm1_components.wrapper.declaration import Context
from mm1_components.wrapper.nested import run_step

log = logging.getLogger("mm1")


def train_chain(cell: Cell, context: Context, prefix: str = "") -> str:
    """Run all stages of a chain before its evaluation; returns the address of the last Checkpoint.

    Args:
        cell: the chain.
        context: context of the current step.
        prefix: start of the names of the stages' records.

    Raises:
        Mm1Error: the error of the stage that failed.
    """
    chain = {run.stage: run.inputs for run in cell.stages}
    outputs: dict[str, str] = {}
    for run in (run for run in cell.stages if run.stage != EVALUATE):
        inputs = run.inputs | {name: outputs[before] for name, before in sources_of(run.stage, chain)}
        outputs[run.stage] = run_step(run.step, inputs, context, f"{prefix}{run.stage}")["manifest"]
    return list(outputs.values())[-1]


def evaluate_chain(cell: Cell, checkpoint: str, context: Context) -> str:
    """Evaluate the Checkpoint of a cell; returns the address of its EvalReport, or nothing if the cell has no evaluation."""
    run = next((run for run in cell.stages if run.stage == EVALUATE), None)
    if run is None:
        return ""
    return str(run_step(run.step, run.inputs | {"checkpoint": checkpoint}, context, run.stage)["manifest"])


def result_of(plan: StudyPlan, cell: Cell, trained: str) -> str:
    """Return the Checkpoint of a cell from the list of all; empty if the cell failed.

    Args:
        plan: the plan.
        cell: one of its cells.
        trained: JSON list of addresses, in the order of the plan's cells.

    Raises:
        ConfigurationError: the list does not have one address per cell.
    """
    try:
        addresses = json.loads(trained)
    except ValueError:
        addresses = None
    if not isinstance(addresses, list) or len(addresses) != len(plan.cells):
        raise ConfigurationError(
            f"trained: expected a JSON list of {len(plan.cells)} addresses, one for each cell of the plan, got {trained[:80]!r}"
        )
    return str(addresses[plan.cells.index(cell)])
