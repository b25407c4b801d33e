"""Checks of the chains of a plan, before anything is trained: each stage's inputs against the declaration of its step.

The checks of the steps themselves run, too, with the stages before them as producers, as for the tasks of a workflow.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mm1.config.resolve import canonical_json, suggest
from mm1.errors import ConfigurationError
from mm1.manifests import Cell, StageRun, StudyPlan
from mm1.studies.chains import sources_of
from mm1.studies.config import STAGES
from mm1_components.wrapper.checks import Producer, Producers, check_errors, field_value
from mm1_components.wrapper.declaration import Step
from mm1_components.wrapper.registry import declaration, names
from mm1_components.wrapper.sources import Kind, addresses_in, check_exists, kind_of, path_in


def declared_defaults() -> dict[str, dict[str, str]]:
    """Return the defaults of the steps of all stages: step -> input -> text; required inputs are missing."""
    known = set(names())
    steps = {stage.step for stage in STAGES.values() if stage.step in known}
    return {name: {field: _as_text(value) for field, value in _defaults(declaration(name)).items()} for name in sorted(steps)}


def check_plan(plan: StudyPlan, launcher: str | None = None, *, files: bool = False) -> None:
    """Check all stages of all cells; equal ones once.

    Args:
        plan: the plan.
        launcher: how ranks are started; empty: on this machine; None: unknown.
        files: whether the stages will run on this machine, so that their files have to exist.

    Raises:
        ConfigurationError: one line for each error, with the study and level of a cell that has it.
    """
    seen: set[str] = set()
    lines: dict[str, str] = {}
    for cell in plan.cells:
        for stage, complaint in _complaints(cell, seen, launcher, files):
            use = cell.uses[0]
            lines.setdefault(f"{stage}: {complaint}", f"study {use.study}, level {use.level}")
    if lines:
        raise ConfigurationError("\n".join(f"{where}: {text}" for text, where in lines.items()))


def _complaints(cell: Cell, seen: set[str], launcher: str | None, files: bool) -> Iterator[tuple[str, str]]:
    """Yield the errors of a cell: stage or setting, error."""
    chain = {run.stage: run.inputs for run in cell.stages}
    producers: dict[str, Producer] = {}
    for run in cell.stages:
        sources = {name: before for name, before in sources_of(run.stage, chain)}
        if missing := [before for before in sources.values() if before not in producers]:
            yield run.stage, f"not checked, because stage {missing[0]} has an error"
            return
        step = declaration(run.step)
        made = {name: producers[before] for name, before in sources.items()}
        complaints = list(_wrong_settings(run, step))
        if not complaints:
            values = _values(run, step, made)
            producers[run.stage] = Producer(step.name, {**values, **made}, run.stage)
            identity = canonical_json([run.model_dump(), [_plain(made)]])
            if identity not in seen:
                seen.add(identity)
                known = values if launcher is None else {**values, "launcher": launcher}
                several = {name: Producers((producer,)) for name, producer in made.items()}
                complaints = [*(_missing_files(run, step) if files else ())]
                complaints += [(run.stage, str(error)) for error in check_errors(step, known, several)]
        yield from complaints
        if complaints:
            return


def _wrong_settings(run: StageRun, step: Step[Any, Any]) -> Iterator[tuple[str, str]]:
    fields = step.inputs.model_fields
    for name, text in run.inputs.items():
        if name not in fields:
            yield f"{run.stage}.{name}", f"step {step.name} has no input {name!r}; {suggest(name, list(fields))}"
            continue
        try:
            field_value(step.inputs, name, text)
        except ConfigurationError as error:
            yield f"{run.stage}.{name}", str(error).removeprefix(f"{name}: ")
    for name, info in fields.items():
        if info.is_required() and name not in run.inputs and name not in STAGES[run.stage].inputs:
            yield f"{run.stage}.{name}", f"is required by step {step.name}"


def _missing_files(run: StageRun, step: Step[Any, Any]) -> Iterator[tuple[str, str]]:
    for name, text in run.inputs.items():
        info = step.inputs.model_fields[name]
        for address in addresses_in(info, text):
            if path_in(info, address.base) and kind_of(address.base) is Kind.PATH:
                try:
                    check_exists(name, address)
                except ConfigurationError as error:
                    yield f"{run.stage}.{name}", str(error).removeprefix(f"{name}: ")


def _values(run: StageRun, step: Step[Any, Any], made: Mapping[str, Producer]) -> dict[str, Any]:
    given = {name: field_value(step.inputs, name, text) for name, text in run.inputs.items()}
    return {name: value for name, value in {**_defaults(step), **given}.items() if name not in made}


def _defaults(step: Step[Any, Any]) -> dict[str, Any]:
    return {name: info.default for name, info in step.inputs.model_fields.items() if not info.is_required()}


def _plain(producers: Mapping[str, Producer]) -> dict[str, Any]:
    """Return producers as plain data, to compare them."""
    return {
        name: [
            producer.step,
            _plain({key: value for key, value in producer.inputs.items() if isinstance(value, Producer)}),
            {key: str(value) for key, value in producer.inputs.items() if not isinstance(value, Producer)},
        ]
        for name, producer in producers.items()
    }


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
