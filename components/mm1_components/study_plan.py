"""Step study_plan: read studies and list what is to be trained, before anything is.

names of studies, or the text of one -> StudyPlan (cells, shared beginnings, claims as they are before the run)
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from mm1.config.values import parse_integer
from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main

if TYPE_CHECKING:
    from mm1.manifests import StudyPlan

MAX_BYTES = 128 * 1024 - 100
"""Longest argument of a process on Linux (MAX_ARG_STRLEN), without the name of the input."""
MAX_BYTES_ON_CLUSTER = 32 * 1024
"""Longest list on a cluster: Argo stores it with each evaluation, and compresses repetitions only within such a distance. The
Workflow has to fit into 1 MiB."""
StudiesField = Field(
    description="names of studies, separated by spaces; files; or the text of a study, which also works on a cluster"
)


class Inputs(BaseModel):
    """Inputs of study_plan."""

    studies: str = StudiesField
    base: str = Field(
        "", description="chain that the levels change: a name (studies/bases), a file or its text; empty = that of each study"
    )
    seeds: str = Field("", description="seeds, separated by spaces; empty = those of each study")


class Outputs(BaseModel):
    """Outputs of study_plan."""

    manifest: ManifestUri = Field(description="StudyPlan")
    bases: str = Field(description="JSON list: beginnings of chains that no other shared chain precedes")
    shared: str = Field(description="JSON list: the other beginnings that several cells have in common")
    cells: str = Field(description="JSON list: names of all cells")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Plan the studies and check every stage.

    Raises:
        ConfigurationError: an unknown study or stage, or a setting that the step of a stage refuses.
    """
    from mm1.studies.plan import waves
    from mm1_components.chains.check import check_plan
    from mm1_components.chains.summary import plan_summary

    plan = _plan(inputs.studies, inputs.base, inputs.seeds, counts_flops=True)
    check_plan(plan)
    _check_number(len(plan.cells), context.store.uri, MAX_BYTES)
    bases, shared = waves(plan)
    context.artifact("summary.md").write_text(plan_summary(plan))
    return Outputs(
        manifest=context.publish(plan),
        bases=json.dumps(bases),
        shared=json.dumps(shared),
        cells=json.dumps([cell.name for cell in plan.cells]),
    )


def check_studies(studies: str, base: str, seeds: str, store: str = "", launcher: str | None = None) -> None:
    """Check the studies with all stages of their chains. Budgets in FLOPs are not computed, because that needs torch."""
    from mm1_components.chains.check import check_plan

    plan = _plan(studies, base, seeds, counts_flops=False)
    starts_here = bool(store) and launcher == ""  # the step itself does not know where the others will run
    check_plan(plan, files=starts_here)
    if store:
        _check_number(len(plan.cells), store, MAX_BYTES if starts_here else MAX_BYTES_ON_CLUSTER)


def _check_number(num_cells: int, store: str, max_bytes: int) -> None:
    """Check that a list of the addresses of all results fits into an argument."""
    from mm1.manifests import manifest_key

    most = max_bytes // len(f'"{store}/{manifest_key("0" * 64)}", ')
    if num_cells > most:
        raise ConfigurationError(
            f"studies: expected at most {most} trainings with the store {store}, got {num_cells}, because lists of their "
            "results are arguments of later steps: run fewer studies at a time, or fewer seeds"
        )


def _plan(studies: str, base: str, seeds: str, *, counts_flops: bool) -> StudyPlan:
    from mm1.studies.config import Budget
    from mm1.studies.files import read_studies
    from mm1.studies.plan import plan_studies
    from mm1_components.chains.check import declared_defaults

    read = read_studies(studies)
    if not counts_flops:
        read = {
            name: study.model_copy(update={"budget": Budget()}) if study.budget.same == "flops" else study
            for name, study in read.items()
        }
    return plan_studies(read, declared_defaults(), base=base, seeds=_numbers(seeds))


def _numbers(seeds: str) -> tuple[int, ...]:
    try:
        numbers = tuple(map(parse_integer, seeds.split()))
    except ValueError:
        numbers = (-1,)
    if any(number < 0 for number in numbers) or len({*numbers}) < len(numbers):
        raise ConfigurationError(f"seeds: expected different integers from 0 on, separated by spaces, got {seeds!r}")
    return numbers


STEP = Step(
    name="study_plan",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="StudyPlan",
    summary="List the trainings of studies: levels, seeds, and what they share.",
    pool="eval",  # budgets in FLOPs are counted with torch
    artifacts=("summary.md",),
    cached=False,
    checks=(check_studies,),
    timeout_s=1800,
)

if __name__ == "__main__":
    main(STEP)
