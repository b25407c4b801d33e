"""Results of an evaluation: the parts of its manifest, examples, and metrics.json."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from random import Random
from statistics import fmean
from typing import Any

from mm1.config.resolve import canonical_json
from mm1.data.images import extension_of
from mm1.evals.harness import Answer, Evaluation, TaskResult
from mm1.generation.images import bytes_of
from mm1.generation.prompt import Image
from mm1.manifests import Digest, EvalReport, Files
from mm1.store.base import BlobRef, Store, digest_of, digest_of_file

MAX_TYPES = 40
"""Number of question types up to which scores are broken down, as on the page; MMMU has 30 subjects."""


def benchmarks_digest(files: Sequence[Path], root: Path) -> Digest:
    """Compute a digest over the names and contents of the benchmark files used."""
    return digest_of(
        canonical_json({path.relative_to(root).as_posix(): digest_of_file(path).sha256 for path in files}).encode()
    )


def store_examples(evaluation: Evaluation, store: Store, per_task: int, seed: int) -> tuple[bytes, Files]:
    """Sample answers as JSON lines, half of them wrong if there are enough, and store their images.

    Returns:
        The lines, and the blobs of images by name; a line's `image` is the digest of a blob.
    """
    by_task: dict[str, list[TaskResult]] = defaultdict(list)
    for result in evaluation.results:
        if result.control == "none":
            by_task[result.task.name].append(result)
    lines, images = [], {}
    for results in by_task.values():
        for position, result in enumerate(results):
            count = per_task // len(results) + (position < per_task % len(results))
            for answer in _pick(result, count, Random(f"{seed} examples {result.task.name} {result.shots}")):
                line = _example(result, answer)
                if answer.trial.images:
                    name, ref = _store_image(store, answer.trial.images[0])
                    images[name] = ref
                    line["image"] = ref.sha256
                lines.append(canonical_json(line))
    return "".join(line + "\n" for line in lines).encode(), images


def _store_image(store: Store, image: Image) -> tuple[str, BlobRef]:
    data = bytes_of(image)
    ref = store.put_bytes(data)
    return f"{ref.sha256}.{extension_of(data)}", ref


def _pick(result: TaskResult, count: int, rng: Random) -> list[Answer]:
    if not result.scores:
        return rng.sample(result.answers, min(count, len(result.answers)))
    right = [answer for answer in result.answers if _is_right(result, answer)]
    wrong = [answer for answer in result.answers if not _is_right(result, answer)]
    num_wrong = max(min(len(wrong), count // 2), min(len(wrong), count - len(right)))
    num_right = min(len(right), count - num_wrong)
    picked = rng.sample(right, num_right) + rng.sample(wrong, num_wrong)
    rng.shuffle(picked)
    return picked


def _is_right(result: TaskResult, answer: Answer) -> bool:
    return answer.values[result.task.headline] >= result.task.right_from


def _example(result: TaskResult, answer: Answer) -> dict[str, Any]:
    item = answer.trial.item
    return {
        "task": result.task.name,
        "shots": result.shots,
        "question": item.question,
        "question_type": item.question_type,
        "answer": item.answer,
        "choices": list(item.choices),
        "prediction": answer.prediction,
        "correct": bool(result.scores) and _is_right(result, answer),
        "value": answer.values.get(result.task.headline),
        "metric": result.task.headline,
        "demonstrations": [{"question": example.question, "answer": example.answer} for example in answer.trial.demonstrations],
        "image": None,
    }


def metrics_tree(evaluation: Evaluation) -> dict[str, Any]:
    """Collect all scores, with a breakdown by question type if there are few types."""
    rows = []
    for result in evaluation.results:
        for score in result.scores:
            row = score.model_dump(mode="json")
            kinds: dict[str, list[Answer]] = defaultdict(list)
            for answer in result.answers:
                if score.metric in answer.values:  # a metric of all items together, such as an F1, has no parts
                    kinds[answer.trial.item.question_type].append(answer)
            if 1 < len(kinds) <= MAX_TYPES:
                row["by_type"] = {kind: _of_type(some, score.metric) for kind, some in sorted(kinds.items())}
            rows.append(row)
    return {"scores": rows}


def _of_type(answers: Sequence[Answer], metric: str) -> dict[str, float]:
    items = {answer.trial.item.id for answer in answers}  # several draws have the same items
    return {"value": fmean(answer.values[metric] for answer in answers), "num_items": len(items)}


def metrics_json(evaluation: Evaluation) -> str:
    """Return the text of metrics.json."""
    return json.dumps(metrics_tree(evaluation), indent=1, ensure_ascii=False) + "\n"


def report_manifest(
    evaluation: Evaluation, store: Store, samples: Path, *, model: str, checkpoint: str, root: Path, config: dict[str, Any]
) -> EvalReport:
    """Store the parts of an EvalReport, and return it.

    Args:
        evaluation: the result.
        store: store of the report.
        samples: Parquet file of all answers.
        model: digest of the manifest of the model; empty for a folder or an address.
        checkpoint: digest of the checkpoint; for a model that is not MM1's, that of its files.
        root: folder of the benchmark files.
        config: configuration of the evaluation, with its split.
    """
    lines, images = store_examples(evaluation, store, int(config["examples"]), int(config["seed"]))
    return EvalReport(
        parents=(model,) if model else (),
        checkpoint=checkpoint,
        benchmarks=benchmarks_digest(evaluation.files, root),
        config=config,
        scores=evaluation.scores,
        examples=store.put_bytes(lines),
        images=images,
        samples=store.put_file(samples),
    )
