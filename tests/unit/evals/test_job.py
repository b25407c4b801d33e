"""Jobs: parts, shares, replies that are kept, several processes, outputs."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mm1.errors import ConfigurationError
from mm1.evals import asking
from mm1.evals.asking import Share, parts_of
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import EvalConfig
from mm1.evals.harness import evaluate
from mm1.evals.job import EvalJob, RunningJob, share_of_environment
from mm1.evals.models.config import ModelChoice
from mm1.evals.models.own import OwnModel
from mm1.evals.outputs import write_outputs
from mm1.evals.plan import plan
from mm1.evals.samples import Samples, read_samples
from mm1.evals.score_tables import score_table, scores_latex
from mm1.evals.tasks.registry import TASKS
from mm1.generation.generator import Generator
from mm1.generation.prompt import Completion
from mm1.report.evaluation_page import render_evaluation
from tests.support import official_files
from tests.support.benchmark_files import WRITERS
from tests.support.tiny_mm1 import tiny_mm1, write_benchmarks

CONFIG = EvalConfig(
    tasks=("vqa", "captions", "novel@2", "text@0"), shots=(0, 2), items=None, draws=2, text_demonstrations=2, style="plain"
)


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    return write_benchmarks(tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(scope="module")
def generator():
    return Generator(*tiny_mm1())


@pytest.fixture(autouse=True, scope="module")
def small_parts():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asking.parts_of, "__defaults__", (5,))
        yield


class Counting:
    """The model of a test, with the prompts that it was asked."""

    name, can_score = "counting", True

    def __init__(self, generator, fails_after=None):
        self.own, self.asked, self.fails_after = OwnModel(generator), [], fails_after

    def _count(self, asks):
        if self.fails_after is not None and len(self.asked) >= self.fails_after:
            raise RuntimeError("interrupted")
        self.asked += asks

    def generate(self, asks, **options):
        self._count(asks)
        return self.own.generate(asks, **options)

    def score(self, asks, continuations, on_batch=None):
        self._count(asks)
        return self.own.score(asks, continuations, on_batch)

    def embed_images(self, images):
        return self.own.embed_images(images)


def running(benchmarks, replies, model, config=CONFIG):
    choice = ModelChoice(name="counting", kind="mm1", digest="1" * 64)
    job = EvalJob(model=choice, benchmarks=str(benchmarks), split="test", config=config, replies=str(replies))
    job = RunningJob(job)
    job.model = lambda: model
    return job


def outputs(job, evaluation, folder):
    write_outputs(folder, job.job, evaluation, Samples(evaluation), {})
    return {name: (folder / name).read_bytes() for name in ("metrics.json", "samples.parquet", "summary.md")}


@pytest.fixture(scope="module")
def whole(benchmarks, generator, tmp_path_factory):
    """The files of one process, and its model."""
    folder = tmp_path_factory.mktemp("whole")
    model = Counting(generator)
    job = running(benchmarks, folder / "replies", model)
    return outputs(job, job.finish(lambda done, total: None), folder), model


def test_parts_have_every_prompt_once_and_all_prompts_of_an_item(benchmarks):
    rounds = plan(BenchmarkFolder(benchmarks, "test"), CONFIG)
    parts = parts_of(rounds, 5)
    for number, planned in enumerate(rounds):
        own = [part for part in parts if part.round == number]
        assert sorted(position for part in own for position in part.positions) == list(range(len(planned.trials)))
        items = [{trial.item.id for trial in part.trials} for part in own]
        assert all(len(each) <= 5 for each in items) and sum(map(len, items)) == len(set().union(*items))


def test_the_files_do_not_depend_on_where_the_benchmarks_are(generator, whole, tmp_path):
    job = running(write_benchmarks(tmp_path / "elsewhere"), tmp_path / "replies", Counting(generator))
    assert outputs(job, job.finish(lambda done, total: None), tmp_path) == whole[0]


@pytest.mark.parametrize("total", [1, 2, 3, 7, 50])
def test_shares_together_give_the_files_of_one_process(benchmarks, generator, whole, tmp_path, total):
    models = [Counting(generator) for _ in range(total)]
    for index in reversed(range(total)):
        running(benchmarks, tmp_path / "replies", models[index]).answer(Share(index, total), lambda done, total: None)
    idle = Counting(generator)
    job = running(benchmarks, tmp_path / "replies", idle)
    assert not job.missing() and not idle.asked
    assert outputs(job, job.finish(lambda done, total: None), tmp_path) == whole[0]
    assert not idle.asked, "the merge asks nothing"
    assert sum(len(model.asked) for model in models) == len(whole[1].asked)


def test_an_interrupted_run_continues_with_the_files_of_an_uninterrupted_one(benchmarks, generator, whole, tmp_path):
    broken = Counting(generator, fails_after=40)
    with pytest.raises(RuntimeError, match="interrupted"):
        running(benchmarks, tmp_path / "replies", broken).finish(lambda done, total: None)
    resumed = Counting(generator)
    job = running(benchmarks, tmp_path / "replies", resumed)
    calls = []
    assert outputs(job, job.finish(lambda done, total: calls.append((done, total))), tmp_path) == whole[0]
    assert len(broken.asked) + len(resumed.asked) == len(whole[1].asked)
    assert calls[0] == (len(broken.asked), job.num_prompts) and calls[-1] == (job.num_prompts, job.num_prompts)


def damage(path, how):
    content = json.loads(path.read_text())
    if how == "cut":
        path.write_text(path.read_text()[:-20])
    elif how == "empty":
        path.write_text("")
    elif how == "other":
        content["replies"][0] = content["replies"][0] | {"completion": {"text": "x"}}
        path.write_text(json.dumps(content))
    elif how == "fewer":
        path.write_text(json.dumps(content | {"replies": content["replies"][1:]}))
    else:
        path.write_text(json.dumps([1]))


@pytest.mark.parametrize("how", ["cut", "empty", "other", "fewer", "list"])
def test_damaged_replies_are_asked_again(benchmarks, generator, whole, tmp_path, how, caplog):
    running(benchmarks, tmp_path / "replies", Counting(generator)).finish(lambda done, total: None)
    path = sorted((tmp_path / "replies").iterdir())[0]
    damage(path, how)
    again = Counting(generator)
    job = running(benchmarks, tmp_path / "replies", again)
    assert outputs(job, job.finish(lambda done, total: None), tmp_path) == whole[0]
    assert 0 < len(again.asked) <= 40 and str(path) in caplog.text


def test_replies_are_of_the_same_model_prompts_and_images_only(benchmarks, generator, tmp_path):
    def asked(config=CONFIG, choice=None, folder=benchmarks):
        model = Counting(generator)
        job = running(folder, tmp_path / "replies", model, config)
        if choice:
            job = RunningJob(job.job.model_copy(update={"model": choice}))
            job.model = lambda: model
        job.finish(lambda done, total: None)
        return len(model.asked)

    config = EvalConfig(tasks=("vqa",), shots=(0,), items=5, controls=False)
    assert asked(config) == 5 and asked(config) == 0
    assert asked(config.model_copy(update={"tasks": ("vqa", "text"), "shots": (0,)})) == 5, "only the new task"
    assert asked(config.model_copy(update={"style": "chat"})) == 5
    assert asked(config.model_copy(update={"seed": 1, "items": 4})) == 4
    assert asked(config, ModelChoice(name="other", kind="mm1", digest="2" * 64)) == 5
    assert asked(config, ModelChoice(name="renamed", kind="mm1", digest="1" * 64)) == 0, "a name is not content"
    copy = write_benchmarks(tmp_path / "copy")
    assert asked(config, folder=copy) == 0, "the same content at another place"
    for image in sorted((copy / "test" / "images").iterdir())[:12]:
        image.write_bytes((copy / "test" / "images" / "000000000048.png").read_bytes())
    assert asked(config, folder=copy) == 5


def test_similar_demonstrations_are_chosen_by_the_features_of_the_model(benchmarks, generator, tmp_path):
    config = EvalConfig(tasks=("captions",), shots=(2,), items=6, controls=False, selection="similar")
    model = Counting(generator)
    job = running(benchmarks, tmp_path / "replies", model, config)
    for trial in job.rounds[0].trials:
        pool = plan(BenchmarkFolder(benchmarks, "test"), config)[0].task.demonstrations(job.folder, "test")
        features = model.embed_images([trial.item.images[0], *(each.images[0] for each in pool)])
        features /= np.linalg.norm(features, axis=1, keepdims=True)
        best = np.argsort(features[1:] @ features[0])[-2:]
        assert [each.id for each in trial.demonstrations] == [pool[index].id for index in best]
    assert job.finish(lambda *_: None).scores == evaluate(model, benchmarks, "test", config, lambda *_: None).scores


def test_shares_of_the_command_line_and_of_torchrun():
    assert Share.parse("1/3") == Share(1, 3) == share_of_environment({"RANK": "1", "WORLD_SIZE": "3"})
    assert share_of_environment({}) is None and share_of_environment({"RANK": "0", "WORLD_SIZE": "1"}) is None
    for text in ("3/3", "-1/3", "1", "a/b", "1/0", "/", "1/2/3"):
        with pytest.raises(ConfigurationError, match=r"--shard: expected I/N"):
            Share.parse(text)


def test_choices_are_generated_by_models_that_cannot_score(benchmarks, generator):
    class Talking(Counting):
        can_score = False

        def generate(self, asks, **options):
            return [Completion("Answer: (WUG).", (), "stop", 1) for _ in asks]

    config = EvalConfig(tasks=("novel",), shots=(2,), items=None, controls=False)
    with pytest.raises(ConfigurationError, match="--choose generate"):
        evaluate(Talking(generator), benchmarks, "test", config, lambda done, total: None)
    chosen = config.model_copy(update={"choose": "generate"})
    (result,) = evaluate(Talking(generator), benchmarks, "test", chosen, lambda done, total: None).results
    assert {answer.prediction for answer in result.answers} == {"wug"} and result.scores[0].value == 0.5


def test_outputs_have_every_answer_and_submissions_of_test_sets(benchmarks, generator, tmp_path):
    captions = json.loads((benchmarks / "test" / "captions.json").read_text())
    copy = write_benchmarks(tmp_path / "benchmarks")
    (copy / "test" / "holidays.json").write_text(json.dumps({"images": captions["images"], "annotations": []}))
    config = EvalConfig(tasks=("holidays", "vqa"), shots=(0,), items=None, draws=2)
    job = running(copy, tmp_path / "replies", Counting(generator), config)
    evaluation = job.finish(lambda *_: None)
    samples = Samples(evaluation)
    submissions = write_outputs(tmp_path / "out", job.job, evaluation, samples, {"seconds": 1}, with_images=True)
    (path,) = submissions
    assert path.name == "holidays-test-0-shots.json"
    entries = json.loads(path.read_text())
    assert [entry.keys() for entry in entries] == [{"image_id", "caption"}] * 12 and entries[0]["image_id"] == 1
    table = read_samples(tmp_path / "out" / "samples.parquet").to_pylist()
    assert {row["task"] for row in table} == {"holidays", "vqa"} and all(row["prompt"] for row in table)
    names = {path.stem for path in (tmp_path / "out" / "images").iterdir()}
    assert names == {digest for row in table for digest in row["images"]}
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["config"]["split"] == "test" and report["run"] == {"seconds": 1} and len(report["benchmarks"]) == 64
    assert {score["task"] for score in report["scores"]} == {"vqa"}


def test_metrics_of_all_items_together_are_in_the_outputs(generator, tmp_path):
    for name in ("pope", "mme", "mmbench"):
        WRITERS[name](tmp_path / name)
    config = EvalConfig(tasks=("pope", "mme", "mmbench"), shots=(0,), controls=False)
    job = running(tmp_path, tmp_path / "replies", Counting(generator), config)
    files = outputs(job, job.finish(lambda *_: None), tmp_path / "out")
    scores = {(row["task"], row["metric"]): row for row in json.loads(files["metrics.json"])["scores"]}
    assert {("pope", "f1"), ("mme", "mme_perception"), ("mmbench", "circular_accuracy")} <= scores.keys()
    assert "by_type" in scores["pope", "accuracy"] and "by_type" not in scores["pope", "f1"]


def test_two_splits_of_a_task_are_two_rows(generator, tmp_path):
    official_files.vqav2(tmp_path / "vqav2")
    config = EvalConfig(tasks=("vqav2:val", "vqav2:train"), shots=(0,), controls=False)
    job = running(tmp_path, tmp_path / "replies", Counting(generator), config)
    evaluation = job.finish(lambda *_: None)
    _, rows = score_table(evaluation.scores)
    assert [(row[0], row[-1]) for row in rows] == [("vqav2:val", "6"), ("vqav2:train", "12")]
    latex = scores_latex(evaluation.scores)
    assert "vqav2:val & accuracy" in latex and "vqav2:train & accuracy" in latex
    page = render_evaluation("m", evaluation.scores, Samples(evaluation).rows, lambda digest: None, {})
    assert "vqav2:val" in page and "vqav2:train" in page


def test_answers_that_lack_a_judge_are_no_submission(generator, tmp_path):
    WRITERS["mmvet"](tmp_path / "mmvet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS, "mmvet", replace(TASKS["mmvet"], max_new_tokens=4))
        config = EvalConfig(tasks=("mmvet",), controls=False)
        job = running(tmp_path, tmp_path / "replies", Counting(generator), config)
        evaluation = job.finish(lambda *_: None)
    assert write_outputs(tmp_path / "out", job.job, evaluation, Samples(evaluation), {}) == []
