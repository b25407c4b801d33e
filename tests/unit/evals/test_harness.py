"""The harness on a small written benchmark folder with a tiny random model."""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections import Counter

import pytest

from mm1.errors import ConfigurationError, DataError
from mm1.evals import tasks
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import EvalConfig, Templates
from mm1.evals.demonstrations import DemonstrationPool, choose_items, distinct, shuffled_images
from mm1.evals.harness import evaluate
from mm1.evals.items import Item
from mm1.evals.models.own import OwnModel
from mm1.evals.prompts import PromptWriter
from mm1.evals.results import benchmarks_digest, metrics_json, store_examples
from mm1.evals.score_tables import scores_markdown
from mm1.evals.tasks.base import Task
from mm1.evals.tasks.registry import TASKS, find_task
from mm1.generation.generator import Generator
from mm1.store.open import open_store
from tests.support.tiny_mm1 import tiny_mm1, write_benchmarks


@pytest.fixture(scope="module")
def generator():
    return Generator(*tiny_mm1())


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    return write_benchmarks(tmp_path_factory.mktemp("benchmarks"))


def run(generator, benchmarks, *tasks, progress=None, **fields):
    config = EvalConfig(tasks=tasks, **({"shots": (0, 2), "items": 8} | fields))
    return evaluate(OwnModel(generator), benchmarks, "test", config, progress or (lambda done, total: None))


@pytest.fixture(scope="module")
def evaluation(generator, benchmarks):
    return run(generator, benchmarks, "captions", "vqa", "novel@2,4", "text")


def test_every_task_has_a_score_for_each_number_of_shots_and_control(evaluation):
    found = {(score.task, score.shots, score.control, score.metric) for score in evaluation.scores}
    assert {("captions", 0, "none", "content_f1"), ("captions", 2, "none", "cider")} < found
    assert {("captions", 0, "shuffled", "content_f1"), ("vqa", 0, "shuffled", "accuracy")} < found
    assert {("novel", 2, "none", "accuracy"), ("novel", 4, "none", "accuracy"), ("text", 0, "none", "accuracy")} < found
    assert ("text", 0, "shuffled", "accuracy") not in found
    by_name = {(score.task, score.control): score for score in evaluation.scores if score.metric == "accuracy"}
    assert by_name["novel", "none"].chance == 0.5 and by_name["novel", "none"].num_items == 2
    assert by_name["text", "none"].chance is None, "one of its items has no choices"
    assert 0 < by_name["vqa", "none"].chance < 1


def test_a_score_is_the_mean_over_its_answers(evaluation):
    for result in evaluation.results:
        for score in result.scores:
            values = [answer.values[score.metric] for answer in result.answers]
            assert score.value == pytest.approx(sum(values) / len(values)) and score.num_items == len(values)


def test_demonstrations_are_of_the_items_type_and_never_the_item(evaluation):
    for result in evaluation.results:
        for answer in result.answers:
            trial = answer.trial
            assert len(trial.demonstrations) == result.shots == len({shown.id for shown in trial.demonstrations})
            for shown in trial.demonstrations:
                assert shown.question_type == trial.item.question_type
                assert shown.images != trial.item.images


def test_choices_are_shown_equally_often_and_answered_by_one_of_them(evaluation):
    for result in evaluation.results:
        if result.task.name == "novel":
            for answer in result.answers:
                counts = Counter(shown.answer for shown in answer.trial.demonstrations)
                assert set(counts.values()) == {result.shots // 2} and answer.prediction in ("dax", "wug")


def test_the_control_swaps_the_image_and_nothing_else(evaluation):
    by_key = {(r.task.name, r.shots, r.control): r for r in evaluation.results}
    for (task, shots, control), result in by_key.items():
        if control == "shuffled":
            for swapped, own in zip(result.answers, by_key[task, shots, "none"].answers, strict=True):
                assert swapped.trial.item == own.trial.item
                assert swapped.trial.demonstrations == own.trial.demonstrations
                assert swapped.trial.images != swapped.trial.item.images == own.trial.images
                assert swapped.trial.request.prefix == own.trial.request.prefix


def test_the_model_sees_demonstrations_and_query_as_the_templates_say(evaluation):
    (result,) = [r for r in evaluation.results if (r.task.name, r.shots, r.control) == ("vqa", 2, "none")]
    for answer in result.answers:
        request, trial = answer.trial.request, answer.trial
        first, second = trial.demonstrations
        assert request.prefix == (
            *first.images,
            f"{first.question} {first.answer} .",
            *second.images,
            f"{second.question} {second.answer} .",
        )
        assert request.prompt == (*trial.item.images, trial.item.question)
    captions = next(r for r in evaluation.results if r.task.name == "captions")
    assert captions.answers[0].trial.request.prompt[1] == "a photo of"


def test_same_seed_same_prompts_and_scores_other_seed_other_ones(generator, benchmarks, evaluation):
    alone = run(generator, benchmarks, "vqa")
    together = [result for result in evaluation.results if result.task.name == "vqa"]
    assert [answer for r in alone.results for answer in r.answers] == [answer for r in together for answer in r.answers]
    other = run(generator, benchmarks, "vqa", seed=1)
    requests = [[a.trial.request for r in each.results for a in r.answers] for each in (alone, other)]
    assert requests[0] != requests[1]


def test_progress_reaches_the_total(generator, benchmarks):
    calls = []
    result = run(generator, benchmarks, "vqa", "text", progress=lambda *call: calls.append(call))
    total = sum(len(r.answers) for r in result.results)
    assert calls[-1] == (total, total) and [done for done, _ in calls] == sorted({done for done, _ in calls})


def test_the_chat_style_uses_the_chat_template(generator, benchmarks):
    result = run(generator, benchmarks, "vqa@1", style="chat", controls=False)
    request = result.results[0].answers[0].trial.request
    assert [message.role for message in (*request.prefix, *request.messages)] == ["user", "assistant", "user"]
    assert [len(message.content) for message in request.prefix] == [2, 1] and len(request.messages) == 1


def test_any_pair_of_files_is_a_task_of_its_own(generator, benchmarks, tmp_path):
    folder = BenchmarkFolder(write_benchmarks(tmp_path), "test")
    for path in folder.folder.glob("vqa*"):
        path.rename(path.with_name(path.name.replace("vqa", "docvqa")))
    assert find_task("docvqa@0", folder).shots == (0,)
    assert run(generator, tmp_path, "docvqa").scores[0].task == "docvqa"


def test_the_report_keeps_examples_with_images_and_breaks_scores_down(evaluation, benchmarks, tmp_path):
    store = open_store(str(tmp_path))
    lines, images = store_examples(evaluation, store, per_task=6, seed=0)
    rows = [json.loads(line) for line in lines.splitlines()]
    assert Counter(row["task"] for row in rows) == {"captions": 6, "vqa": 6, "novel": 4, "text": 5}
    digests = {ref.sha256 for ref in images.values()}
    assert all((row["image"] in digests) == (row["task"] != "text") for row in rows)
    assert all(store.get_bytes(ref) for ref in images.values())
    scores = json.loads(metrics_json(evaluation))["scores"]
    (row,) = [r for r in scores if (r["task"], r["shots"], r["control"]) == ("vqa", 0, "none")]
    assert set(row["by_type"]) == {"colour", "shape"}
    assert "| vqa, images shuffled | accuracy |" in scores_markdown(evaluation.scores)
    digest = benchmarks_digest(evaluation.files, benchmarks)
    assert digest != benchmarks_digest(evaluation.files[1:], benchmarks) and len(digest) == 64


# -- drawing ------------------------------------------------------------------------------------------------------------


def test_items_are_drawn_without_repetition():
    items = [Item(id=str(n), question=f"q{n % 10}", answer="a", references=("a",)) for n in range(30)]
    items = distinct(items)
    assert len(items) == len(choose_items(items, 99, 0, "t")) == 10, "the same question about the same image counts once"
    drawn = choose_items(items, 4, 0, "t")
    assert len({item.question for item in drawn}) == 4 and drawn == choose_items(items, 4, 0, "t")


def test_shuffling_needs_another_image(tmp_path):
    one, two = tmp_path / "1.png", tmp_path / "2.png"
    same = [Item(id=str(n), images=(one,), answer="a", references=("a",)) for n in range(3)]
    with pytest.raises(ConfigurationError, match="another item with 1"):
        shuffled_images(same, 0, "t")
    mixed = [*same, Item(id="4", images=(two,), answer="a", references=("a",))]
    assert shuffled_images(mixed, 0, "t") == [(two,), (two,), (two,), (one,)]


def test_too_few_demonstrations_are_refused():
    shown = [Item(id="1", question_type="colour", answer="a", references=("a",))]
    pool = DemonstrationPool("vqa", shown)
    asked = Item(id="9", question_type="shape", answer="a", references=("a",))
    with pytest.raises(ConfigurationError, match=r"vqa: 2 demonstrations of question type 'shape'.*has 0"):
        pool.draw(asked, 2, 0)


@pytest.mark.parametrize(
    ("template", "tail", "head", "continuation"),
    [
        ("{question} {answer} .", (".",), "what ?", " red"),
        ("Question: {question} Short answer: {answer}", (), "Question: what ? Short answer:", " red"),
        ("{question}\n{answer}\n", (), "what ?", "\nred"),
    ],
)
def test_a_template_gives_prompt_stop_and_continuation(template, tail, head, continuation):
    writer = PromptWriter(TASKS["vqa"], "plain", Templates(question=template))
    asked = Item(id="1", question="what ?", answer="red", references=("red",))
    assert writer.stop == tail + TASKS["vqa"].stop
    assert writer.request(asked, (), ()).prompt == (head,)
    assert writer.continuation(asked, "red") == continuation


# -- bad input ----------------------------------------------------------------------------------------------------------


def test_a_missing_benchmark_file_names_task_and_file(generator, benchmarks):
    with pytest.raises(ConfigurationError, match=r"task vague: no file .*vague_questions\.json"):
        run(generator, benchmarks, "vague")


def test_an_unknown_task_or_split_is_refused(generator, benchmarks):
    with pytest.raises(ConfigurationError, match=r"'vqq': neither .*did you mean 'vqa'"):
        run(generator, benchmarks, "vqq")
    with pytest.raises(ConfigurationError, match=r"no split 'dev'; known: test"):
        evaluate(OwnModel(generator), benchmarks, "dev", EvalConfig(tasks=("vqa",)), lambda done, total: None)
    with pytest.raises(ConfigurationError, match="numbers of demonstrations"):
        run(generator, benchmarks, "vqa@four")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("vqa_questions.json", "{", "not in the format"),
        ("vqa_annotations.json", '{"annotations": []}', "no annotation of question"),
        ("vqa_questions.json", '{"questions": 3}', "not in the format"),
        ("vqa_questions.json", '{"questions": []}', r"no items of test in .*vqa_questions\.json"),
        ("text.jsonl", '{"id": 1}', "lacks 'answer'"),
        ("captions.json", '{"images": [{"id": 1, "file_name": "x.jpg"}], "annotations": []}', "no file for image x.jpg"),
    ],
)
def test_damaged_files_are_named(generator, tmp_path, file, content, message):
    folder = write_benchmarks(tmp_path, num_items=4)
    (folder / "test" / file).write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        run(generator, folder, file.partition("_")[0].partition(".")[0])
    assert str(folder) in str(caught.value)


def test_a_missing_image_is_named(generator, tmp_path):
    folder = write_benchmarks(tmp_path, num_items=4)
    (folder / "test" / "images" / "000000000002.png").unlink()
    with pytest.raises(DataError, match="no file for image 2"):
        run(generator, folder, "vqa")


def test_templates_must_hold_their_places():
    for fields in ({"question": "{question}"}, {"caption": "photo"}, {"question": "{answer} {question}"}):
        with pytest.raises(ValueError, match="template"):
            Templates(**fields)


def test_known_tasks_say_what_they_are():
    assert all(task.summary and task.headline for task in TASKS.values())


def test_every_task_of_the_package_is_known():
    for module in pkgutil.iter_modules(tasks.__path__, f"{tasks.__name__}."):
        own = [value for value in vars(importlib.import_module(module.name)).values() if isinstance(value, Task)]
        unknown = [task.name for task in own if TASKS.get(task.name) is not task]
        assert not unknown, f"{', '.join(unknown)}: add the module {module.name} to MODULES in mm1/evals/tasks/registry.py"
