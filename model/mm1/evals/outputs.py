"""The output folder of an evaluation. Torch-free.

metrics.json      all scores          samples.parquet   every prompt with its answer
summary.md        a table of them     scores.csv, .tex  the same for spreadsheets and papers
submission/       result files for test sets without answers
report.json       model, settings, versions, digest of the benchmark files, scores, speed
images/           the images of the prompts by digest (--log-samples)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mm1.data.images import extension_of
from mm1.evals.harness import Evaluation
from mm1.evals.job import EvalJob
from mm1.evals.models.config import versions
from mm1.evals.results import benchmarks_digest, metrics_json, metrics_tree
from mm1.evals.samples import Samples
from mm1.evals.score_tables import scores_csv, scores_latex, scores_markdown
from mm1.evals.submissions import write_submissions
from mm1.store.local import atomic_path

REPORT, SAMPLES = "report.json", "samples.parquet"


def write_outputs(
    folder: Path, job: EvalJob, evaluation: Evaluation, samples: Samples, facts: dict[str, Any], *, with_images: bool = False
) -> list[Path]:
    """Write the results of an evaluation.

    Args:
        folder: the output folder.
        job: the job.
        evaluation: its result.
        samples: its answers.
        facts: speed and duration of this run.
        with_images: whether to copy the images of the prompts.

    Returns:
        The result files for test sets without answers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "metrics.json", metrics_json(evaluation))
    _write(folder / "summary.md", scores_markdown(evaluation.scores))
    _write(folder / "scores.csv", scores_csv(evaluation.scores))
    _write(folder / "scores.tex", scores_latex(evaluation.scores, job.model.name))
    with atomic_path(folder / SAMPLES) as temporary:
        samples.write(temporary)
    if with_images:
        _write_images(samples, folder / "images")
    submissions = write_submissions(evaluation, folder / "submission")
    _write(folder / REPORT, json.dumps(report_of(job, evaluation, facts), indent=1, ensure_ascii=False) + "\n")
    return submissions


def report_of(job: EvalJob, evaluation: Evaluation, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the content of report.json."""
    return {
        "model": {"given": job.model.name, **job.model.facts},
        "benchmarks": benchmarks_digest(evaluation.files, Path(job.benchmarks)),
        "config": content_of(job),
        "versions": versions(),
        **metrics_tree(evaluation),
        "run": facts,
    }


def content_of(job: EvalJob) -> dict[str, Any]:
    """Return the configuration as a manifest holds it."""
    tiles = job.model.settings.max_tiles
    return job.config.model_dump(mode="json") | {"split": job.split} | ({"max_tiles": tiles} if tiles else {})


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _write_images(samples: Samples, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for digest in samples.images:
        data = samples.image(digest) or b""
        (folder / f"{digest}.{extension_of(data)}").write_bytes(data)
