"""Steps within a step: a task that does the work of several steps of this project, such as the stages of a training.

Each of them goes through the same code as a task of its own (:mod:`mm1_components.wrapper.work`): the same cache key, so that
work of other runs is not repeated, checkpoints to resume from, and a run record of its own, ``<task>/<name>``. They are looked
up by name, because no step imports another one.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from mm1_components.wrapper import records
from mm1_components.wrapper.declaration import Context
from mm1_components.wrapper.registry import declaration
from mm1_components.wrapper.work import Surroundings, perform

log = logging.getLogger("mm1")


def run_step(name: str, inputs: Mapping[str, str], context: Context, label: str) -> dict[str, Any]:
    """Run a step within the current one and return its outputs.

    Args:
        name: name of the step.
        inputs: its inputs, as text.
        context: context of the current step.
        label: name of the work within the task.

    Raises:
        Mm1Error: invalid inputs, or an error of the step.
    """
    step = declaration(name)
    record = records.new_record(context.run, f"{context.task}/{label}", step.name) | {"within": context.task}
    around = Surroundings(
        store=context.store,
        scratch=context.work,
        launcher=context.launcher,
        metrics_port=context.metrics_port,
        logs=context.logs,
        use_cache=context.use_cache,
        progress_file=context.progress_file,
    )
    log.info("%s: %s", label, step.summary)
    context.nested.append(False)  # also if it fails, and the current step goes on
    with records.recorded(context.store, record):
        outputs = perform(step, inputs, record, around)
    context.nested[-1] = bool(record["cache_hit"])
    return outputs
