"""Cells of studies that were never trained: a plan, checkpoints with histories, and tables of answers with a known truth."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm1.errors import Outcome
from mm1.evals.samples import SCHEMA
from mm1.manifests import Cell, CellUse, Checkpoint, EvalReport, PlannedStudy, Score, StageRun, StudyPlan, load, publish
from mm1.store.base import Store, digest_of
from mm1.studies.config import TERM, Study
from mm1_components.study_report import STEP
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.execute import execute
from tests.support.stored_runs import record

ZERO = "0" * 64
Truth = Callable[[str, int, str], float]
"""Level, seed, term -> mean value of the items (or the loss)."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """Addresses of a plan and of its cells' results."""

    plan: str
    trained: list[str]
    reports: list[str]

    @property
    def inputs(self) -> list[str]:
        """Arguments of study_report."""
        return ["--plan", self.plan, "--trained", json.dumps(self.trained), "--reports", json.dumps(self.reports)]


def two_levels(**more: Any) -> dict[str, Any]:
    """The content of a study with two levels, a score and a claim."""
    claim = {"says": "B is better than A.", "score": "few-shot", "better": "B", "than": "A", "effect": 0.1}
    return {
        "title": "A against B",
        "paper": {"section": "3.2", "says": "B is better.", "figures": {"A": {"8 shots": 45.0}, "B": {"8 shots": 62.2}}},
        "factor": "letter",
        "levels": {"A": {"mix.seed": "1"}, "B": {"mix.seed": "2"}},
        "scores": {"few-shot": {"mean": ["vague/4/accuracy", "vague/8/accuracy"]}},
        "claims": [claim],
    } | more


def publish_studies(
    store: Store,
    studies: dict[str, dict[str, Any]],
    truth: Truth,
    *,
    num_items: int = 64,
    failed: Collection[str] = (),
    images: list[bytes] | None = None,
) -> Published:
    """Publish a plan and the results of its cells.

    Args:
        store: the store.
        studies: name -> content of the file.
        truth: mean of each value.
        num_items: items of each task; two neighbours are about one image.
        failed: names of cells without a result.
        images: images of the items, repeated; None: digests of images that no one has.
    """
    cells = [
        Cell(
            name=f"{name}-{level}-{seed}",
            seed=seed,
            stages=(StageRun(stage="evaluate", step="evaluate", inputs={}),),
            uses=(CellUse(study=name, level=level),),
        )
        for name, content in studies.items()
        for level in content["levels"]
        for seed in Study.model_validate(content).seeds
    ]
    planned = tuple(PlannedStudy(name=name, content=each, levels=tuple(each["levels"])) for name, each in studies.items())
    trained, reports = [], []
    for cell in cells:
        study = Study.model_validate(studies[cell.uses[0].study])
        made = cell.name not in failed
        checkpoint, report = _results(store, study, cell, truth, num_items, images) if made else ("", "")
        trained.append(checkpoint)
        reports.append(report)
    return Published(plan=publish(store, StudyPlan(studies=planned, cells=tuple(cells))), trained=trained, reports=reports)


def _results(
    store: Store, study: Study, cell: Cell, truth: Truth, num_items: int, images: list[bytes] | None
) -> tuple[str, str]:
    level = cell.uses[0].level
    terms = list(dict.fromkeys(term for score in study.scores.values() for term in (*score.mean, *score.minus)))
    losses = {match["source"]: truth(level, cell.seed, match[0]) for match in map(TERM.match, terms) if match["source"]}
    rounds = [match for match in map(TERM.match, terms) if match["task"]]
    checkpoint = _checkpoint(store, cell, losses or {"captions": 0.6})
    means = {match[0]: truth(level, cell.seed, match[0]) for match in rounds}
    rows = [row for match in rounds for row in _rows(match, means[match[0]], cell.seed, level, num_items, images)]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), buffer)
    scores = tuple(_score(match, rows, num_items) for match in rounds)
    report = EvalReport(
        parents=(digest_of(checkpoint.encode()),),
        checkpoint=ZERO,
        benchmarks=ZERO,
        config={},
        scores=scores,
        examples=store.put_bytes(b""),
        samples=store.put_bytes(buffer.getvalue()),
    )
    return checkpoint, publish(store, report)


def _rows(match: Any, mean: float, seed: int, level: str, num_items: int, images: list[bytes] | None) -> list[dict[str, Any]]:
    difficulty = np.random.default_rng([len(match["task"]), 7]).random(num_items)
    noise = np.random.default_rng([seed, *level.encode(), *match[0].encode()]).random(num_items)
    order = np.argsort(np.argsort(0.5 * difficulty + 0.5 * noise))
    right = order < round(mean * num_items)
    return [_row(match, number, bool(right[number]), images) for number in range(num_items)]


def _row(match: Any, number: int, right: bool, images: list[bytes] | None) -> dict[str, Any]:
    digests = [digest_of(data) for data in images] if images else [digest_of(str(index).encode()) for index in range(40)]
    shots = int(match["shots"])
    seen = [digests[(number // 2 + 7 * index) % len(digests)] for index in range(shots + 1)]
    prompt = "".join(f"<image>q{index} a{index} . " for index in range(shots)) + f"<image>what is in picture {number}?"
    return {
        "task": match["task"],
        "split": "test",
        "shots": shots,
        "control": match["control"] or "none",
        "draw": 0,
        "item": f"{match['task']}-{number:03d}",
        "cluster": f"{match['task']} {number // 2}",
        "question_type": "",
        "question": f"what is in picture {number}?",
        "prompt": prompt,
        "images": seen,
        "references": ["a big red ring"],
        "choices": [],
        "logprobs": [],
        "output": "a big red ring" if right else "a small cross",
        "prediction": "a big red ring" if right else "a small cross",
        "values": [(match["metric"], float(right))],
        "num_prompt_tokens": 9,
        "num_new_tokens": 3,
        "finish_reason": "stop",
    }


def _score(match: Any, rows: list[dict[str, Any]], num_items: int) -> Score:
    key = (match["task"], int(match["shots"]), match["control"] or "none")
    values = [row["values"][0][1] for row in rows if (row["task"], row["shots"], row["control"]) == key]
    return Score(
        task=key[0], split="test", metric=match["metric"], shots=key[1], control=key[2], value=float(np.mean(values)),
        stderr=0.05, num_items=num_items,
    )  # fmt: skip


def _checkpoint(store: Store, cell: Cell, losses: dict[str, float]) -> str:
    step = np.arange(1, 201)
    rng = np.random.default_rng(cell.seed)
    columns: dict[str, Any] = {"step": step, "loss": np.full(200, 1.0)}
    for source, loss in losses.items():
        columns[f"loss/{source}"] = (loss + 2.5 * np.exp(-step / 30)) * np.exp(rng.normal(0, 0.05, 200))
        columns[f"validation/{source}"] = np.where(step % 50 == 0, loss + np.exp(-step / 60) * (step < 200), np.nan)
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    checkpoint = Checkpoint(
        stage="pretrain",
        recipe="mm1_tiny",
        config={"cell": cell.name},
        step=200,
        total_steps=200,
        sequences_seen=3200,
        tokens_seen=396_800,
        images_seen=25_600,
        world_size=1,
        num_parameters=502_656,
        model={},
        history=store.put_bytes(buffer.getvalue()),
    )
    return publish(store, checkpoint)


def report_studies(store: Store, published: Published, run: str, folder: Path, benchmarks: Path) -> None:
    """Record the trainings and evaluations, and run study_report; its artifacts are below `folder`."""
    for number, (checkpoint, report) in enumerate(zip(published.trained, published.reports, strict=True)):
        if not checkpoint:
            name = load(published.plan, StudyPlan).cells[number].name
            failure = {"failure": "diverged: loss is not finite"}
            record(store, run, f"cell-{number}", step="study_train", inputs={"cell": name}, outputs=failure)
        else:
            record_training(store, run, f"train-{number}", checkpoint, 61.0)
            evaluated = {"step": "evaluate", "outputs": {"manifest": report}, "inputs": {"benchmarks": str(benchmarks)}}
            record(store, run, f"evaluate-{number}", **evaluated | {"step": "study_evaluate", "inputs": {}})
            record(store, run, f"evaluate-{number}_evaluate", **evaluated)
    options = ["--store", store.uri, "--run", run, *(f"--artifact.{name}={folder / name}" for name in STEP.artifacts)]
    outcome = execute(STEP, build_parser(STEP).parse_args([*published.inputs, *options]))
    assert outcome is Outcome.DONE


def record_training(store: Store, run: str, task: str, checkpoint: str, seconds: float, **more: Any) -> None:
    """Record a training with its metrics.json."""
    facts = {"gpu": "", "processor": "AMD EPYC"} | more.pop("facts", {})
    metrics = store.put_bytes(json.dumps({"seconds": seconds, "facts": facts}).encode())
    artifacts = {"metrics.json": metrics.model_dump()}
    record(store, run, task, **{"step": "pretrain", "outputs": {"manifest": checkpoint}, "artifacts": artifacts} | more)
