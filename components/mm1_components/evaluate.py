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
from mm1_components.wrapper.sources import Benchmarks, Kind, kind_of, raw_files

if TYPE_CHECKING:
    from mm1.evals.config import EvalConfig
    from mm1.evals.job import RunningJob


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
    draws: int = Field(1, ge=1, description="draws of the demonstrations; scores are means over them")
    sub_images: bool = Field(
        False, description="divide the query's images into the tiles of the model's layout, however many images a prompt has"
    )
    sub_image_shots: int = Field(0, ge=0, description="last demonstrations whose images are divided as the query's")
    max_tiles: int = Field(0, ge=0, description="tiles of an image at most, without the overview; 0 = as in the training")
    batch_size: int = Field(64, ge=1, description="prompts per batch")
    processes: int = Field(0, ge=0, description="processes that answer, with the same results; 0 = one per GPU")
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
    from mm1.evals.benchmark_folder import BenchmarkFolder
    from mm1.evals.job import EvalJob, RunningJob
    from mm1.evals.models.config import ModelSettings
    from mm1.evals.models.find import find_model
    from mm1.evals.plan import plan
    from mm1.manifests import Checkpoint

    config = eval_config(**{name: getattr(inputs, name) for name in signature(eval_config).parameters})
    context.load(inputs.checkpoint, Checkpoint)
    benchmarks = raw_files(inputs.benchmarks, "benchmarks", context.work)
    # Before torch and the model are loaded, so that errors in the benchmark files show within seconds.
    rounds = plan(BenchmarkFolder(benchmarks, inputs.split), config)
    job = EvalJob(
        model=find_model(inputs.checkpoint, ModelSettings(batch_size=inputs.batch_size, max_tiles=inputs.max_tiles)),
        benchmarks=str(benchmarks),
        split=inputs.split,
        config=config,
        replies=str(context.work / "replies"),
    )
    return _evaluate(RunningJob(job, rounds), inputs.processes, context)


def _evaluate(running: RunningJob, processes: int, context: Context) -> Outputs:
    from mm1.evals.outputs import SAMPLES, content_of
    from mm1.evals.results import metrics_json, report_manifest
    from mm1.evals.samples import Samples
    from mm1.evals.score_tables import scores_markdown
    from mm1.evals.shards import answer_in_processes, processes_for
    from mm1.report.evaluation_page import render_evaluation

    started = time.monotonic()
    if (processes := processes_for(processes)) > 1:
        answer_in_processes(running, processes, context.work / "processes", context.progress)
    evaluation = running.finish(context.progress)
    seconds = time.monotonic() - started
    num_answers = sum(len(result.answers) for result in evaluation.results)
    context.note(answers=num_answers, seconds_asking=round(seconds, 2), answers_per_second=round(num_answers / seconds, 1))
    samples, table = Samples(evaluation), context.work / SAMPLES
    samples.write(table)
    job = running.job
    report = report_manifest(
        evaluation,
        context.store,
        table,
        model=job.model.digest,
        checkpoint=job.model.digest,
        root=Path(job.benchmarks),
        config=content_of(job),
    )
    context.artifact("metrics.json").write_text(metrics_json(evaluation))
    context.artifact("summary.md").write_text(scores_markdown(evaluation.scores))
    title = f"Evaluation of {job.model.short_name[:12]}"
    page = render_evaluation(title, evaluation.scores, samples.rows, samples.image, content_of(job))
    context.artifact("answers.html").write_text(page)
    return Outputs(manifest=context.publish(report))


def eval_config(
    tasks: str,
    shots: str,
    items: int,
    controls: bool,
    style: str,
    question_template: str,
    caption_template: str,
    draws: int,
    sub_images: bool,
    sub_image_shots: int,
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
        "draws": draws,
        "sub_images_of_model": sub_images,
        "sub_image_shots": sub_image_shots,
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
    from mm1.evals.tasks.groups import expand
    from mm1.evals.tasks.names import parse_shots
    from mm1.evals.tasks.registry import known_task, shots_of
    from mm1.world.address import parse_world
    from mm1.world.config import EVAL_SPLITS, MARK_SIDE_PX, WorldConfig

    if kind_of(benchmarks) is not Kind.WORLD:
        return
    if split not in EVAL_SPLITS:
        raise ConfigurationError(f"split: the toy world has no split {split!r}; {suggest(split, EVAL_SPLITS)}")
    config = WorldConfig(image_size_px=parse_world(benchmarks).image_size_px)
    for name in expand(tasks.split()):
        known_task(name)
        base, numbers = shots_of(name, parse_shots(shots))
        if not config.has_task(base):
            raise ConfigurationError(
                f"tasks: {base!r} needs images of at least {MARK_SIDE_PX} pixels; set benchmarks to world:0?image_size=64"
            )
        if numbers and max(numbers) > (most := config.demonstrations(base)):
            raise ConfigurationError(
                f"shots: expected at most {most} (the toy world's demonstrations of {base}), got {max(numbers)}"
            )


def check_folder(tasks: str, benchmarks: Path, split: str) -> None:
    """Check that the benchmark folder has the tasks, and the split of those in this project's layout."""
    from mm1.evals.benchmark_folder import BenchmarkFolder
    from mm1.evals.tasks.groups import expand
    from mm1.evals.tasks.registry import find_task

    folder = BenchmarkFolder(benchmarks, split)
    for name in expand(tasks.split()):
        if not find_task(name, folder).splits:
            folder.check_split()


STEP = Step(
    name="evaluate",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="EvalReport",
    summary="Score a checkpoint on benchmark files, few-shot",
    pool="eval",
    artifacts=("metrics.json", "summary.md", "answers.html"),
    checks=(eval_config, check_tasks, check_world, check_folder),
    timeout_s=14_400,
)

if __name__ == "__main__":
    main(STEP)
