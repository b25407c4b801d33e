"""Run records of earlier attempts of a local run.

A task has one record per run, named after the task, and after the item in a loop. If a later attempt does not have the task
(the loop has other items, a condition is false, the file was changed), nothing overwrites its record, and an old failure would
be the state of the run. Such records are marked as superseded.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable

from mm1.errors import Mm1Error
from mm1.lineage.records import read_record, supersede
from mm1.store.base import Store
from mm1_workflows.argo.expressions import REFERENCE, substitute
from mm1_workflows.argo.graph import TaskNode
from mm1_workflows.engines.local.process import argument

log = logging.getLogger(__name__)


class EarlierRecords:
    """The records that earlier attempts of a run wrote, without those that are superseded."""

    def __init__(self, store: Store, run: str) -> None:
        self.store = store
        self.keys: dict[str, str] = {}
        """Object name of a record -> task, also of a record about work within the task."""
        for key in store.list(f"runs/{run}/"):
            if key.endswith(".json"):
                self._read(key)

    def _read(self, key: str) -> None:
        try:
            record = read_record(self.store, key)
        except Mm1Error as error:  # commands that read records report it
            log.debug("%s", error)
            return
        if not record.superseded:
            self.keys[key] = record.within or record.task

    def supersede(self, is_in_attempt: Callable[[str], bool]) -> None:
        """Mark the records of tasks that the current attempt does not have."""
        for key, task in [(key, task) for key, task in self.keys.items() if not is_in_attempt(task)]:
            try:
                del self.keys[key]
                supersede(self.store, key)
            except (Mm1Error, OSError) as error:  # the run itself does not need it
                log.warning("the record of %s, which this attempt does not have, could not be marked: %s", task, error)


def record_label(task: TaskNode) -> str:
    """Return the name of a task's record, with references such as ``{{item}}``."""
    inputs = {name: task.arguments.get(name, default or "") for name, default in task.template.inputs.items()}

    def value(reference: str) -> str:
        prefix, _, name = reference.rpartition(".")
        return inputs[name] if prefix == "inputs.parameters" and name in inputs else f"{{{{{reference}}}}}"

    label = substitute(argument(list(task.template.argv), "--task"), value)
    return label or task.template.step.replace("-", "_")


def may_record(task: TaskNode, name: str) -> bool:
    """Whether a task may write the record of a name; the values of its references, such as the item, are not known yet."""
    label = record_label(task)
    return bool(label) and re.fullmatch(".*".join(map(re.escape, REFERENCE.split(label)[::2])), name, re.DOTALL) is not None
