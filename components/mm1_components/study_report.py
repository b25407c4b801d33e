"""Step study_report: compute the verdicts of studies from their trained and evaluated cells.

StudyPlan + Checkpoints + EvalReports -> StudyReport, report.html, studies.json, summary.md
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field

from mm1.errors import ConfigurationError, Mm1Error
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.sources import raw_files

if TYPE_CHECKING:
    from mm1.lineage.records import TaskRecord
    from mm1.manifests import Digest
    from mm1.studies.cells import TrainedCell
    from mm1.studies.results import Computed

log = logging.getLogger("mm1")


class Inputs(BaseModel):
    """Inputs of study_report."""

    plan: ManifestUri = Field(description="StudyPlan")
    trained: str = Field(
        description="addresses of the cells' Checkpoints, a JSON list in the order of the plan; an empty one = the cell failed"
    )
    reports: str = Field(
        description="addresses of the cells' EvalReports, a JSON list in the order of the plan; an empty one = not evaluated"
    )
    title: str = Field("The paper's lessons", description="title of the page")


class Outputs(BaseModel):
    """Outputs of study_report."""

    manifest: ManifestUri = Field(description="StudyReport")
    num_shown: int = Field(description="claims that are shown")
    num_claims: int = Field(description="claims of all studies")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Compute the verdicts, and write the page.

    Raises:
        ConfigurationError: lists that do not fit the plan.
        DataError: a manifest, an answer or a history is missing or damaged.
    """
    from mm1.manifests import StudyPlan, StudyReport, split_uri
    from mm1.studies.cells import read_cells, study_data
    from mm1.studies.lessons import summary_markdown
    from mm1.studies.results import compute
    from mm1.studies.run_records import failures_of, measured, records_of
    from mm1_components.ranks.stage_card import describe_commit

    plan, digest = context.load(inputs.plan, StudyPlan), split_uri(inputs.plan)[1]
    trained, reports = parse_addresses("trained", inputs.trained), parse_addresses("reports", inputs.reports)
    check_numbers(len(plan.cells), trained, reports)
    cells = read_cells(plan, trained, reports)
    records = records_of(cells.values())
    reasons = failures_of(context.store, context.run)
    failed = {cell.name: reasons.get(cell.name, "") for cell in plan.cells if cell.name not in cells}
    computed = compute(study_data(plan, digest, cells), digest, measured(cells.values(), records), len(plan.cells), failed)
    results = computed.results
    context.note(commit=describe_commit(), verdicts=results.counts, failed=len(failed))
    page = _page(inputs.title, computed, cells, records, context)
    context.artifact("report.html").write_text(page, encoding="utf-8")
    context.artifact("studies.json").write_text(results.json_text(), encoding="utf-8")
    context.artifact("summary.md").write_text(summary_markdown(results), encoding="utf-8")
    for study in results.studies:
        for verdict in study.verdicts:
            log.info("%s: %s: %s", study.name, verdict.claim.says, verdict.sentence)
    manifest = StudyReport(
        parents=tuple(dict.fromkeys([digest, *(split_uri(address)[1] for address in reports if address)])),
        plan=digest,
        failed=tuple(failed),
        results=context.store.put_bytes(results.json_text().encode()),
        page=context.store.put_bytes(page.encode()),
    )
    num_shown = results.counts.get("shown", 0)
    return Outputs(manifest=context.publish(manifest), num_shown=num_shown, num_claims=len(results.verdicts))


def parse_addresses(name: str, text: str) -> list[str]:
    """Parse a JSON list of addresses of manifests, which may be empty.

    Raises:
        ConfigurationError: it is not one; the message names the input.
    """
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise ConfigurationError(f'{name}: expected a JSON list of addresses, such as ["ADDRESS", ""], got {text[:60]!r}')
    return values


def check_numbers(num_cells: int, trained: list[str], reports: list[str]) -> None:
    """Check that there is an address for each cell.

    Raises:
        ConfigurationError: there are more or fewer.
    """
    for name, addresses in (("trained", trained), ("reports", reports)):
        if len(addresses) != num_cells:
            raise ConfigurationError(
                f"{name}: expected {num_cells} addresses, one for each cell of the plan, got {len(addresses)}; "
                'give "" for a cell that failed'
            )


def check_lists(trained: str, reports: str) -> None:
    """Check that both lists can be parsed."""
    parse_addresses("trained", trained)
    parse_addresses("reports", reports)


def _page(
    title: str, computed: Computed, cells: Mapping[str, TrainedCell], records: Mapping[Digest, TaskRecord], context: Context
) -> str:
    from mm1.studies.page import render_results

    evaluated = [records[cell.report_digest] for cell in cells.values() if cell.report_digest in records]
    addresses = dict.fromkeys(str(record.inputs.get("benchmarks", "")) for record in evaluated)
    facts = {"run": context.run, "plan": computed.results.plan, "commit": context.facts["commit"]}
    return render_results(computed.results, computed.sections, images_of(addresses, context.work), facts, title)


def images_of(addresses: Iterable[str], work: Path) -> Callable[[str], bytes | None]:
    """Return a function that finds images of benchmark files by their SHA-256; the files are opened at its first call.

    Args:
        addresses: inputs `benchmarks` of the evaluations.
        work: scratch folder.
    """
    from mm1.store.base import digest_of_file

    paths: dict[str, Path] = {}

    def image(digest: str) -> bytes | None:
        if not paths:
            paths[""] = work  # read once, also if there are none
            for number, address in enumerate(addresses):
                for path in _images(address, work / str(number)):
                    paths[digest_of_file(path).sha256] = path
        return paths[digest].read_bytes() if digest in paths else None

    return image


def _images(address: str, work: Path) -> list[Path]:
    try:
        folder = raw_files(address, "benchmarks", work)
    except Mm1Error as error:  # on another machine than the evaluation
        log.warning("the page has no images of items: %s", error)
        return []
    return [path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")]


STEP = Step(
    name="study_report",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="StudyReport",
    summary="Compute the verdicts of studies from their trained and evaluated cells",
    artifacts=("report.html", "studies.json", "summary.md"),
    checks=(check_lists,),
    timeout_s=3600,
)

if __name__ == "__main__":
    main(STEP)
