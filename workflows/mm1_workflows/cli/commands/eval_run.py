"""``mm1 eval MODEL``: evaluate a model of any kind on benchmark files."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cappa import Arg, command

from mm1.errors import ConfigurationError
from mm1_workflows.cli.meter import Meter
from mm1_workflows.cli.options import count_option
from mm1_workflows.cli.output import console, plain, say, table

if TYPE_CHECKING:
    from mm1.evals.config import EvalConfig
    from mm1.evals.harness import Evaluation
    from mm1.evals.job import RunningJob
    from mm1.evals.models.config import ModelChoice, ModelSettings

OUTPUTS = Path("runs/eval")
"""Default parent of output folders."""
_WAIT_S = 1.0
OF_MODEL = "model"


@command(name="run", help="Evaluate a model on benchmark files; the same command continues an interrupted run.")
@dataclass
class EvalRun:
    """``mm1 eval run``."""

    model: Annotated[
        str,
        Arg(
            value_name="model",
            help="Folder (of MM1 or any image-text-to-text model of transformers), address or digest of a manifest, or "
            "http(s) address of an OpenAI-compatible API.",
        ),
    ]
    tasks: Annotated[
        list[str],
        Arg(long=True, value_name="TASKS", help="Tasks, separated by commas or spaces: vqav2, vqav2:test, vqa@0,4."),
    ]
    benchmarks: Annotated[str, Arg(long=True, value_name="FOLDER", help="Folder of benchmark files, or world:<seed>.")]
    shots: Annotated[str, Arg(long=True, value_name="N,N", help="Numbers of demonstrations.")] = "0,4,8"
    split: Annotated[str, Arg(long=True, value_name="NAME", help="Subfolder of tasks in this project's layout.")] = "test"
    limit: Annotated[int, count_option("Items per task, sampled [default: all].", least=0)] = 0
    style: Annotated[Literal["plain", "chat"], Arg(long=True, help="Prompt templates, or the model's chat template.")] = "plain"
    choose: Annotated[
        Literal["likelihood", "generate"], Arg(long=True, help="How choices are answered: by likelihood, or by generated text.")
    ] = "likelihood"
    draws: Annotated[int, count_option("Draws of the demonstrations.", least=1)] = 1
    selection: Annotated[Literal["random", "similar"], Arg(long=True, help="Choice of the demonstrations.")] = "random"
    text_demonstrations: Annotated[
        int, count_option("Also evaluate 0 shots with this number of demonstrations without images.", least=0)
    ] = 0
    sub_images: Annotated[
        str,
        Arg(
            long=True,
            value_name="SIDE",
            help="Divide the query's images: model = by the model's own layout; a number = into an overview and 4 crops of "
            "this side, that of the model's images.",
        ),
    ] = ""
    sub_image_shots: Annotated[int, count_option("Last demonstrations whose images are divided, too.", least=0)] = 0
    max_tiles: Annotated[
        int, count_option("Tiles of an image of an MM1 model at most [default: as in its training].", least=0)
    ] = 0
    judge: Annotated[
        str, Arg(long=True, value_name="MODEL", help="Model that grades free answers (LLaVA-W, MM-Vet), given like the model.")
    ] = ""
    judge_name: Annotated[str, Arg(long=True, value_name="NAME", help="Name of the judge at an address.")] = ""
    judge_api_key_file: Annotated[
        str, Arg(long=True, value_name="FILE", help="API key of the judge [default: that of the model].")
    ] = ""
    no_controls: Annotated[bool, Arg(long=True, help="Do not evaluate with another item's image.")] = False
    seed: Annotated[int, count_option("Seed of items, demonstrations and swaps.", least=0)] = 0
    question_template: Annotated[str, Arg(long=True, value_name="TEXT", help="Plain style: question and answer.")] = ""
    caption_template: Annotated[str, Arg(long=True, value_name="TEXT", help="Plain style: caption.")] = ""
    text_template: Annotated[str, Arg(long=True, value_name="TEXT", help="Plain style: prompt of text and answer.")] = ""
    output: Annotated[
        Path | None, Arg(long=True, value_name="FOLDER", help="Output folder [default: runs/eval/<model>-<digest>].")
    ] = None
    log_samples: Annotated[bool, Arg(long=True, help="Also keep the images of the prompts, by digest.")] = False
    no_resume: Annotated[bool, Arg(long=True, help="Discard the replies of earlier runs in the output folder.")] = False
    shard: Annotated[
        str,
        Arg(long=True, value_name="I/N", help="Answer one share of the prompts only; a run without it combines the results."),
    ] = ""
    processes: Annotated[int, count_option("Processes on this machine [default: one per GPU].", least=0)] = 0
    store: Annotated[
        str, Arg(long=True, value_name="URI", help="Store of the model's digest, in which the report is published.")
    ] = ""
    batch_size: Annotated[int, count_option("Prompts per batch; halved if memory runs out.", least=1)] = 64
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16", "float16"], Arg(long=True, help="Dtype of a transformers model.")
    ] = "auto"
    device_map: Annotated[str, Arg(long=True, value_name="MAP", help="Placement of a transformers model, such as auto.")] = ""
    trust_remote_code: Annotated[bool, Arg(long=True, help="Run code in the model's folder.")] = False
    verify_key: Annotated[str, Arg(long=True, value_name="FILE", help="Public key that the model's signature must match.")] = ""
    model_name: Annotated[str, Arg(long=True, value_name="NAME", help="Name of the model at an address.")] = ""
    api_key_file: Annotated[str, Arg(long=True, value_name="FILE", help="API key [default: $OPENAI_API_KEY].")] = ""
    concurrency: Annotated[int, count_option("Requests to an address at the same time.", least=1)] = 8
    request_timeout: Annotated[float, Arg(long=True, value_name="S", help="Time for one answer of an address.")] = 120.0
    retry: Annotated[float, Arg(long=True, value_name="S", help="Time in which a failed request is repeated.")] = 600.0
    _started: float = field(default_factory=time.monotonic, init=False)

    def __call__(self) -> int:
        """Evaluate, write the output folder and print the scores."""
        from mm1.evals.asking import Share
        from mm1.evals.job import share_of_environment

        share = Share.parse(self.shard) if self.shard else share_of_environment(os.environ)
        if share and self.no_resume:
            raise ConfigurationError("--no-resume would discard the replies of other shards: remove the output folder instead")
        with tempfile.TemporaryDirectory(prefix="mm1-eval-") as work:
            running, folder = self._prepare(Path(work))
            if share:
                self._answer(running, share, is_last=not self.shard and share.index == 0)
                if self.shard or share.index:
                    say(console(), f"shard {share.index} of {share.total}: replies in {running.kept.folder}")
                    return 0
            elif self._num_processes(running) > 1:
                self._answer_in_processes(running, Path(work))
            with Meter(running.job.model.short_name) as meter:
                evaluation = running.finish(meter)
            self._write(running, evaluation, folder, meter)
        return 0

    # -- before the model is loaded ---------------------------------------------------------------------------------

    def _prepare(self, work: Path) -> tuple[RunningJob, Path]:
        """Check arguments and benchmark files, and find the model; nothing heavy is imported."""
        from mm1.config.resolve import canonical_json
        from mm1.evals.benchmark_folder import BenchmarkFolder
        from mm1.evals.job import EvalJob, RunningJob
        from mm1.evals.models.find import find_model
        from mm1.evals.plan import plan
        from mm1.lineage.text import count
        from mm1.store.base import digest_of
        from mm1_components.wrapper.sources import raw_files

        config, settings = self._config(), self._settings()
        benchmarks = raw_files(self.benchmarks, "benchmarks", work)
        rounds = plan(BenchmarkFolder(benchmarks, self.split), config)
        judge = self._judge(settings)
        choice = find_model(self.model, settings, self.store, [judge.kind] if judge else [])
        name = digest_of(
            canonical_json([choice.identity, config.model_dump(mode="json"), self.split, self.benchmarks]).encode()
        )
        folder = (self.output or OUTPUTS / f"{choice.short_name}-{name[:8]}").expanduser()
        _check_writable(folder)
        if self.no_resume:
            shutil.rmtree(folder / "replies", ignore_errors=True)
        job = EvalJob(
            model=choice,
            benchmarks=str(benchmarks),
            split=self.split,
            config=config,
            replies=str(folder / "replies"),
            judge=judge,
        )
        say(
            console(),
            f"{sum(len(each.trials) for each in rounds):,} prompts of {count(len(config.tasks), 'task')}; output: {folder}",
        )
        return RunningJob(job, rounds), folder

    def _config(self) -> EvalConfig:
        from mm1.config.resolve import validate
        from mm1.evals.config import EvalConfig
        from mm1.evals.tasks.names import parse_shots

        given = {"question": self.question_template, "caption": self.caption_template, "text": self.text_template}
        tree: dict[str, Any] = {
            "tasks": split_names(self.tasks),
            "shots": parse_shots(self.shots.replace(",", " ")),
            "items": self.limit or None,
            "controls": not self.no_controls,
            "templates": {name: text for name, text in given.items() if text},
        }
        tree |= self._sub_images()
        same = ("style", "choose", "draws", "selection", "sub_image_shots", "text_demonstrations", "seed")
        return validate(EvalConfig, tree | {name: getattr(self, name) for name in same}, "eval")

    def _sub_images(self) -> dict[str, int | bool]:
        from mm1.config.values import parse_integer

        if self.sub_images in ("", OF_MODEL):
            return {"sub_images_of_model": self.sub_images == OF_MODEL}
        try:
            return {"sub_images_px": parse_integer(self.sub_images)}
        except ValueError:
            raise ConfigurationError(f"--sub-images: expected model, or a side in pixels, got {self.sub_images!r}") from None

    def _judge(self, settings: ModelSettings) -> ModelChoice | None:
        from mm1.evals.models.find import find_model

        if not self.judge:
            if self.judge_name or self.judge_api_key_file:
                raise ConfigurationError("--judge-name and --judge-api-key-file are for the model of --judge: expected it, too")
            return None
        own = {"model_name": self.judge_name, "api_key_file": self.judge_api_key_file or settings.api_key_file}
        return find_model(self.judge, settings.model_copy(update=own), self.store, ["transformers", "api", "mm1"])

    def _settings(self) -> ModelSettings:
        from mm1.config.resolve import validate
        from mm1.evals.models.config import ModelSettings

        names = ("batch_size", "dtype", "device_map", "trust_remote_code", "verify_key", "model_name", "api_key_file")
        tree: dict[str, Any] = {name: getattr(self, name) for name in (*names, "concurrency", "max_tiles")}
        tree |= {"request_timeout_s": self.request_timeout, "retry_s": self.retry}
        return validate(ModelSettings, tree, "eval")

    # -- answers ----------------------------------------------------------------------------------------------------

    def _num_processes(self, running: RunningJob) -> int:
        from mm1.evals.shards import processes_for

        return 1 if running.job.model.kind == "api" or self.device_map else processes_for(self.processes)

    def _answer(self, running: RunningJob, share: Any, *, is_last: bool) -> None:
        with Meter(f"shard {share.index} of {share.total}") as meter:
            running.answer(share, meter)
        while is_last and running.missing():  # rank 0 of torchrun combines the results of all
            time.sleep(_WAIT_S)

    def _answer_in_processes(self, running: RunningJob, work: Path) -> None:
        from mm1.evals.shards import answer_in_processes

        number = self._num_processes(running)
        with Meter(f"{number} processes") as meter:
            answer_in_processes(running, number, work, meter)

    # -- results ----------------------------------------------------------------------------------------------------

    def _write(self, running: RunningJob, evaluation: Evaluation, folder: Path, meter: Meter) -> None:
        from mm1.evals.outputs import content_of, write_outputs
        from mm1.evals.samples import Samples
        from mm1.evals.score_tables import score_table
        from mm1.report.evaluation_page import render_evaluation

        seconds = time.monotonic() - self._started
        facts = {"prompts": running.num_prompts, "seconds": round(seconds, 1), "answers_per_second": round(meter.rate, 2)}
        samples = Samples(evaluation)
        submissions = write_outputs(folder, running.job, evaluation, samples, facts, with_images=self.log_samples)
        settings = content_of(running.job) | facts
        page = render_evaluation(running.job.model.name, evaluation.scores, samples.rows, samples.image, settings)
        (folder / "report.html").write_text(page, encoding="utf-8")
        output = console()
        heads, rows = score_table(evaluation.scores)
        if rows:
            listing = table(*heads)
            for row in rows:
                listing.add_row(*map(plain, row))
            output.print(listing)
            say(output, "± standard error over items")
        for path in submissions:
            say(output, f"no answers to compare with; to submit: {path}")
        if self.store:
            say(output, f"published: {self._publish(running, evaluation, folder)}")
        say(output, f"written: {folder} (look at {folder / 'report.html'})")

    def _publish(self, running: RunningJob, evaluation: Evaluation, folder: Path) -> str:
        from mm1.evals.outputs import SAMPLES, content_of
        from mm1.evals.results import report_manifest
        from mm1.manifests import publish
        from mm1.store.open import open_store

        choice, store = running.job.model, open_store(self.store)
        report = report_manifest(
            evaluation,
            store,
            folder / SAMPLES,
            model=choice.digest if choice.store else "",
            checkpoint=choice.checkpoint or choice.digest,
            root=Path(running.job.benchmarks),
            config=content_of(running.job) | ({} if choice.store else {"model": choice.facts}),
        )
        return publish(store, report)


def _check_writable(folder: Path) -> None:
    """Check that files can be written to a folder, before hours of answers.

    Raises:
        ConfigurationError: they cannot.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(f"--output: {folder} cannot be written: {error.strerror}") from None


def split_names(texts: list[str]) -> list[str]:
    """Split names of tasks at commas and spaces; a number continues the shots of the name before it (``vqa@0,4``)."""
    names: list[str] = []
    for text in texts:
        for position, word in enumerate(word for word in re.split(r"[,\s]+", text) if word):
            if position and word.isdecimal():
                names[-1] += f",{word}"
            else:
                names.append(word)
    return names
