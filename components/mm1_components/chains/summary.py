"""The plan of studies as Markdown."""

from __future__ import annotations

from mm1.lineage.text import count
from mm1.manifests import StudyPlan
from mm1.studies.config import TRAININGS


def plan_summary(plan: StudyPlan) -> str:
    """Return what is going to be trained: a line per study, shared chain and cell."""
    lines = [f"# {count(len(plan.cells), 'cell')} of {', '.join(study.content['title'] for study in plan.studies)}", ""]
    for study in plan.studies:
        seeds = ", ".join(map(str, study.content["seeds"]))
        lines.append(f"- {study.name}: {study.content['factor']}: {', '.join(study.content['levels'])}; seeds {seeds}")
    lines += ["", "| chain | trainings | of |", "| --- | --- | --- |"]
    for cell in (*plan.shared, *plan.cells):
        trained = [f"{run.stage} ({_how(run.inputs)})" for run in cell.stages if run.step in TRAININGS]
        uses = ", ".join(dict.fromkeys(f"{use.study} {use.level}" for use in cell.uses))
        lines.append(f"| {cell.name} | {' → '.join(trained)} | {uses} |")
    return "\n".join(lines) + "\n"


def _how(inputs: dict[str, str]) -> str:
    return " ".join(filter(None, (inputs.get("recipe", ""), inputs.get("overrides", ""))))
