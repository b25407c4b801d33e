"""The reference of studies is what their files hold."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from mm1.config.resolve import resolve
from mm1.manifests import Cell, StageRun
from mm1.recipes import registry
from mm1.studies.config import TRAININGS, Budget, Study
from mm1.studies.files import names, read_studies
from mm1.studies.plan import plan_studies
from mm1_components.chains.check import check_plan, declared_defaults

PAGE = Path(__file__).parents[2] / "docs/reference/studies.md"
BLOCK = re.compile(r"(<!-- studies: `make golden` writes them -->\n)(.*)(<!-- /studies -->)", re.DOTALL)
STUDIES = {name: study for item in names() for name, study in read_studies(item).items()}
ON_BASES = [
    (name, base) for name, study in STUDIES.items() for base in {"laptop": ("laptop", "mm1_1b")}.get(study.base, (study.base,))
]


def without_flops(study: Study) -> Study:
    return study.model_copy(update={"budget": Budget()}) if study.budget.same == "flops" else study


def steps(run: StageRun) -> int:
    return resolve(registry.get(run.inputs["recipe"]), shlex.split(run.inputs.get("overrides", ""))).train.steps


def cost(cells: tuple[Cell, ...]) -> int:
    """Steps of all trainings, each counted once."""
    trainings = {}
    for cell in cells:
        for number, run in enumerate(cell.stages):
            if run.step in TRAININGS:
                trainings[str(cell.stages[: number + 1])] = steps(run)
    return sum(trainings.values())


def overview() -> Iterator[str]:
    yield "| study | in the paper | factor | levels | claims | trainings | steps |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for name, study in STUDIES.items():
        cells = plan_studies({name: without_flops(study)}, declared_defaults()).cells
        levels = ", ".join(study.levels) if len(study.levels) < 8 else f"{len(study.levels)} levels"
        yield (
            f"| [`{name}`](#{name}) | {study.paper.section} | {study.factor} | {levels} | {len(study.claims)} | {len(cells)} "
            f"| {cost(cells):,} |"
        )


def details(name: str, study: Study) -> Iterator[str]:
    yield f"### {name}\n\n{study.title}. MM1: {study.paper.says}\n"
    if study.claims:
        yield "| claim | score | | smallest effect |\n| --- | --- | --- | --- |"
    for claim in study.claims:
        other = f"{claim.than} ({claim.than_score})" if claim.than_score else claim.than
        relation = "equals" if claim.kind == "equal" else "above"
        yield f"| {claim.says} | {claim.score} | {claim.better} {relation} {other} | {claim.effect:g} |"
    if study.limits:
        yield f"{chr(10) if study.claims else ''}Limits: {study.limits}"
    yield ""


@pytest.mark.golden
def test_the_page_has_every_study() -> None:
    text = "\n" + "\n".join([*overview(), "", *(line for name in STUDIES for line in details(name, STUDIES[name]))]) + "\n"
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        page = BLOCK.sub(lambda match: match[1] + text + match[3], page)
        PAGE.write_text(page, encoding="utf-8")
    match = BLOCK.search(page)
    assert match and match[2] == text, "docs/reference/studies.md is out of date: run `make golden` if the change is meant"


@pytest.mark.parametrize(("name", "base"), ON_BASES)
def test_every_stage_of_every_study_is_accepted_by_its_step(name: str, base: str) -> None:
    check_plan(plan_studies({name: without_flops(STUDIES[name]).on(base)}, declared_defaults()))


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_has_the_paper_and_says_what_it_cannot_show(name: str) -> None:
    study = STUDIES[name]
    assert study.claims or study.analysis != "levels"
    assert set(study.paper.figures) <= {*study.levels, "law"}
    numbers = [value for row in study.paper.figures.values() for value in row.values()]
    assert not numbers or study.paper.source, "numbers need a source"
