"""The made-up figures of a run that was never trained: histories, scores and answers that look like a real run's.

Images, questions and right answers are real: they come from a tiny toy world's benchmark files.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm1.manifests import Checkpoint, DataMix, EvalReport, GateDecision, GateRule, Score
from mm1.store.base import Store, digest_of


@dataclass
class Benchmarks:
    """The questions of a tiny toy world, with their images."""

    folder: Path

    def items(self, name: str) -> list[dict[str, Any]]:
        questions = json.loads((self.folder / f"{name}_questions.json").read_text())["questions"]
        answers = json.loads((self.folder / f"{name}_annotations.json").read_text())["annotations"]
        by_id = {item["question_id"]: item["multiple_choice_answer"] for item in answers}
        return [
            {"question": item["question"], "answer": by_id[item["question_id"]], "image": self.image(item["image_id"])}
            for item in questions
        ]

    def captions(self, name: str) -> list[dict[str, Any]]:
        tree = json.loads((self.folder / f"{name}.json").read_text())
        return [
            {"question": "", "answer": item["caption"], "image": self.image(item["image_id"])} for item in tree["annotations"]
        ]

    def texts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "text.jsonl").read_text().splitlines()]

    def image(self, number: int) -> bytes:
        return (self.folder / "images" / f"{number:012d}.jpg").read_bytes()


def make_checkpoint(store: Store, stage: str, recipe: str, steps: int, parents: tuple[str, ...], mix: DataMix) -> Checkpoint:
    rng = np.random.default_rng(len(stage) + steps)
    step = np.arange(1, steps + 1)
    floors = {"captions": 0.62, "interleaved": 0.95, "text": 1.35, "instructions": 0.22}
    curves = {}
    for name in (source.name for source in mix.sources):
        clean = (
            floors[name]
            + (6.2 if stage == "text" else 2.6) * np.exp(-step / (steps * 0.09))
            + 0.4 * np.exp(-step / (steps * 0.5))
        )
        noisy = clean * np.exp(rng.normal(0, 0.06, steps))
        if len(mix.sources) > 1:
            noisy[1:][rng.random(steps - 1) < 0.15] = np.nan
        curves[f"loss/{name}"] = noisy
    mean = np.nan_to_num(np.stack(list(curves.values()))).mean(axis=0)
    for source in mix.sources:
        held = 1.1 * floors[source.name] + np.exp(-step / (steps * 0.3))
        curves[f"validation/{source.name}"] = np.where(step % max(1, steps // 5) == 0, held, np.nan)
    rate = 5e-3 * np.minimum(step / (0.05 * steps), 0.55 + 0.45 * np.cos(np.pi * step / steps))
    norm = (0.4 + 6 * np.exp(-step / 20)) * np.exp(rng.normal(0, 0.25, steps))
    beside = {"grad_norm": norm, "tokens": 2048 - rng.integers(40, 110, steps), "positions": np.full(steps, 2048)}
    if recipe.endswith("_moe"):
        spread = np.exp(-step / (0.2 * steps))
        beside |= {"router/load_max": 1.1 + spread, "router/entropy": 1 - 0.2 * spread, "router/dropped": np.zeros(steps)}
    table = pa.table({"step": step, "lr": rate, "loss": mean} | curves | beside)
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        pq.write_table(table, file.name)
        history = store.put_file(Path(file.name))
    images = 0 if stage == "text" else steps * 16 * 8
    return Checkpoint(
        parents=parents,
        stage=stage,
        recipe=recipe,
        config={"recipe": recipe, "optim": {"lr": 5e-3, "name": "muon"}, "train": {"steps": steps, "global_batch": 16}},
        step=steps,
        total_steps=steps,
        sequences_seen=steps * 16,
        tokens_seen=steps * 16 * 124,
        images_seen=images,
        world_size=1,
        num_parameters=502_656,
        model={"config.json": store.put_bytes(b"{}")},
        history=history,
    )


def make_metrics(steps: int, mfu: float = 0.0) -> bytes:
    """Rows of metrics.jsonl."""
    rng = np.random.default_rng(steps)
    rows = []
    for step in range(1, steps + 1):
        speed = 9100 * rng.uniform(0.9, 1.02) * (0.2 if step % 100 == 1 else 1)
        row = {"step": step, "tokens_per_s": round(speed, 1), "memory_bytes": int(8.3e8 + min(step, 60) * 1e6)}
        rows.append(row | ({"mfu": mfu * speed / 9100} if mfu else {}))
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


SCORES: dict[str, tuple[str, dict[int, float], float | None]] = {
    "captions": ("content_f1", {0: 0.96, 4: 0.97, 8: 0.95}, None),
    "captions_heldout": ("content_f1", {0: 0.91}, None),
    "vqa": ("accuracy", {0: 0.70, 4: 0.71, 8: 0.66}, 0.29),
    "vqa_heldout": ("accuracy", {0: 0.64, 4: 0.66}, 0.29),
    "vague": ("accuracy", {0: 0.36, 4: 0.97, 8: 0.98}, 0.31),
    "novel": ("accuracy", {8: 0.93}, 0.5),
    "text": ("accuracy", {0: 0.89}, None),
    "instruct": ("accuracy", {0: 0.08}, 0.06),
}
SHUFFLED = {("captions", 0): 0.34, ("vqa", 0): 0.28, ("vqa", 4): 0.27, ("vague", 4): 0.30, ("novel", 8): 0.49}


def make_report(store: Store, bench: Benchmarks, checkpoint: str, tuned: bool, hostile: str) -> EvalReport:
    scores: list[Score] = []
    for task, (metric, by_shots, chance) in SCORES.items():
        if tuned and task not in ("captions", "vqa", "vague", "instruct"):
            continue
        for shots, value in by_shots.items():
            value = 0.83 if tuned and task == "instruct" else value - (0.03 if tuned else 0.0)
            scores.append(_score(task, metric, shots, value, chance, "none"))
            if (task, shots) in SHUFFLED and not tuned:
                scores.append(_score(task, metric, shots, SHUFFLED[task, shots], chance, "shuffled"))
    if not tuned:
        scores.append(_score("captions", "cider", 0, 3.21, None, "none"))
    examples, images = [], {}
    for task in ("captions", "vqa", "vague", "novel", "instruct"):
        items = bench.captions(task) if task == "captions" else bench.items(task)
        for number, item in enumerate(items[:8]):
            right = number % 4 != 3 if task != "instruct" or tuned else number == 0
            ref = store.put_bytes(item["image"])
            images[f"{ref.sha256[:16]}.jpg"] = ref
            answer = item["answer"] + hostile
            prediction = answer if right else "a small green ring" + hostile
            examples.append(
                {
                    "task": task,
                    "shots": {"vague": 4, "novel": 8}.get(task, 0),
                    "question": item["question"] + hostile if item["question"] else "",
                    "answer": answer,
                    "prediction": prediction,
                    "correct": right,
                    "value": float(right) if task != "captions" else 0.93 if right else 0.25,
                    "metric": "content_f1" if task == "captions" else "accuracy",
                    "demonstrations": [{"question": "", "answer": other["answer"] + hostile} for other in items[9:12]],
                    "image": ref.sha256,
                }
            )
    for number, text in enumerate(bench.texts()[:5]):
        answer = text["answer"] + hostile
        line = {"task": "text", "shots": 0, "question": text["prompt"], "answer": answer, "image": None}
        examples.append(line | {"prediction": answer if number else "cow", "correct": bool(number)})
    return EvalReport(
        parents=(checkpoint,),
        checkpoint=checkpoint,
        benchmarks=digest_of(b"benchmarks"),
        config={"items": 256, "shots": [0, 4, 8], "style": "chat" if tuned else "plain"},
        scores=tuple(scores),
        examples=store.put_bytes("".join(json.dumps(line) + "\n" for line in examples).encode()),
        images=images,
    )


def _score(task: str, metric: str, shots: int, value: float, chance: float | None, control: Any) -> Score:
    stderr = 0.11 if metric == "cider" else float(np.sqrt(max(value * (1 - value), 1e-4) / 256))
    return Score(
        task=task,
        split="test",
        metric=metric,
        shots=shots,
        control=control,
        value=round(value, 4),
        stderr=round(stderr, 4),
        num_items=256,
        chance=chance,
    )


def make_decision(report: EvalReport, parents: tuple[str, ...]) -> GateDecision:
    rules = (
        GateRule(rule="captions/0/content_f1 >= 0.5", value=0.93, threshold=0.5, passed=True),
        GateRule(rule="vague/4/accuracy >= 0.5", value=0.94, threshold=0.5, passed=True),
    )
    return GateDecision(parents=parents, checkpoint=report.checkpoint, decision="pass", rules=rules)
