"""Step evaluate: score a checkpoint on benchmark files, few-shot, with image-shuffled controls.

Checkpoint + benchmark files -> EvalReport (scores, sample answers with images), metrics.json, summary.md
"""

from __future__ import annotations

import time
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.sources import WORLD_SCHEME, Benchmarks, raw_files

if TYPE_CHECKING:
    from mm1.evals.config import EvalConfig
    from mm1.generation.generator import Generator
    from mm1.manifests import Checkpoint


class Inputs(BaseModel):
    """Inputs of evaluate."""

    checkpoint: ManifestUri = Field(description="Checkpoint to score")
    benchmarks: Benchmarks = Field(
        "world:0", description="folder with a subfolder per split: VQAv2, COCO-caption and jsonl files, and images/"
    )
    split: str = Field("test", description="subfolder of benchmarks; tune settings on dev only")
    tasks: str = Field(
        "captions captions_heldout vqa vqa_heldout vague novel text",
        description="tasks, separated by spaces; name@0,4 sets the shots of one task; every <name>_questions.json is a task",
    )
    shots: str = Field("0 4 8", description="numbers of demonstrations, separated by spaces")
    items: int = Field(256, ge=1, description="items per task, sampled without replacement")
    controls: bool = Field(True, description="also evaluate with the query image replaced by another item's")
    style: Literal["plain", "chat"] = Field("plain", description="plain: prompt templates; chat: the model's chat template")
    question_template: str = Field("{question} {answer} .", description="plain style, after an image: question and answer")
    caption_template: str = Field("a photo of {caption} .", description="plain style, after an image: its caption")
    batch_size: int = Field(64, ge=1, description="prompts per batch")
    seed: int = Field(0, description="seed of items, demonstrations and swaps")


class Outputs(BaseModel):
    """Outputs of evaluate."""

    manifest: ManifestUri = Field(description="EvalReport")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Score the checkpoint.

    Raises:
        ConfigurationError: an unknown task or split, a missing file, not enough demonstrations.
        DataError: a damaged benchmark file.
        CheckpointError: the checkpoint does not match its digests.
    """
    from mm1.manifests import Checkpoint, EvalReport, split_uri

    config = eval_config(**{name: getattr(inputs, name) for name in signature(eval_config).parameters})
    checkpoint = context.load(inputs.checkpoint, Checkpoint)
    benchmarks = raw_files(inputs.benchmarks, "benchmarks", context.work)

    from mm1.evals.files import BenchmarkFolder
    from mm1.evals.plan import plan

    # Before torch and the model are loaded, so that errors in the benchmark files show within seconds.
    plan(BenchmarkFolder(benchmarks, inputs.split), config)

    from mm1.evals.harness import evaluate
    from mm1.evals.models.own import OwnModel
    from mm1.evals.results import benchmarks_digest, metrics_json, store_examples, summary_markdown
    from mm1.evals.samples import write_samples

    generator = _generator(inputs, checkpoint, context.work / "checkpoint")
    started = time.monotonic()
    digest = split_uri(inputs.checkpoint)[1]
    evaluation = evaluate(OwnModel(generator, digest), benchmarks, inputs.split, config, context.progress)
    seconds = time.monotonic() - started
    num_answers = sum(len(result.answers) for result in evaluation.results)
    context.note(answers=num_answers, seconds_asking=round(seconds, 2), answers_per_second=round(num_answers / seconds, 1))
    lines, images = store_examples(evaluation, context.store, config.examples, config.seed)
    samples = context.work / "samples.parquet"
    write_samples(evaluation, samples)
    report = EvalReport(
        parents=(digest,),
        checkpoint=digest,
        benchmarks=benchmarks_digest(evaluation.files, benchmarks),
        config=config.model_dump(mode="json") | {"split": inputs.split},
        scores=evaluation.scores,
        examples=context.store.put_bytes(lines),
        images=images,
        samples=context.store.put_file(samples),
    )
    context.artifact("metrics.json").write_text(metrics_json(evaluation))
    context.artifact("summary.md").write_text(summary_markdown(evaluation.scores))
    return Outputs(manifest=context.publish(report))


def eval_config(
    tasks: str,
    shots: str,
    items: int,
    controls: bool,
    style: str,
    question_template: str,
    caption_template: str,
    seed: int,
) -> EvalConfig:
    """Return the configuration of an evaluation from the step's inputs; also a check that they can be parsed.

    Raises:
        ConfigurationError: an input cannot be parsed; the message names it.
    """
    from mm1.config.resolve import validate
    from mm1.evals.config import EvalConfig
    from mm1.evals.tasks.names import parse_shots

    tree = {
        "tasks": tasks.split(),
        "shots": parse_shots(shots),
        "items": items,
        "controls": controls,
        "style": style,
        "seed": seed,
        "templates": {"question": question_template, "caption": caption_template},
    }
    return validate(EvalConfig, tree, "evaluate")


def check_tasks(tasks: str) -> None:
    """Check that the task names can be parsed."""
    from mm1.evals.tasks.names import parse_name

    for name in tasks.split():
        parse_name(name)


def check_world(tasks: str, shots: str, benchmarks: str, split: str) -> None:
    """Check that the toy world has the split, the tasks, and enough demonstrations of them."""
    from mm1.evals.tasks.names import parse_shots
    from mm1.evals.tasks.registry import known_task, shots_of
    from mm1.world.config import EVAL_SPLITS, WorldConfig

    if not benchmarks.startswith(WORLD_SCHEME):
        return
    if split not in EVAL_SPLITS:
        raise ConfigurationError(f"split: the toy world has no split {split!r}; {suggest(split, EVAL_SPLITS)}")
    for name in tasks.split():
        known_task(name)
        base, numbers = shots_of(name, parse_shots(shots))
        if numbers and max(numbers) > (most := WorldConfig().demonstrations(base)):
            raise ConfigurationError(
                f"shots: expected at most {most} (the toy world's demonstrations of {base}), got {max(numbers)}"
            )


def check_folder(tasks: str, benchmarks: Path, split: str) -> None:
    """Check that the benchmark folder has the tasks."""
    from mm1.evals.files import BenchmarkFolder
    from mm1.evals.tasks.registry import find_task

    folder = BenchmarkFolder(benchmarks, split)
    for name in tasks.split():
        find_task(name, folder)


def _generator(inputs: Inputs, checkpoint: Checkpoint, folder: Path) -> Generator:
    from mm1.checkpoint.read import load_model
    from mm1.generation.config import BatchSettings
    from mm1.generation.device import choose_device
    from mm1.generation.generator import Generator
    from mm1.manifests import split_uri
    from mm1.store.open import open_store

    model, processor = load_model(open_store(split_uri(inputs.checkpoint)[0]), checkpoint, folder, choose_device()[1])
    return Generator(model, processor, BatchSettings(batch_size=inputs.batch_size))


STEP = Step(
    name="evaluate",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="EvalReport",
    summary="Score a checkpoint on benchmark files, few-shot",
    pool="eval",
    artifacts=("metrics.json", "summary.md"),
    checks=(eval_config, check_tasks, check_world, check_folder),
    timeout_s=14_400,
)

if __name__ == "__main__":
    main(STEP)
