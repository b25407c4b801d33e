"""TextCore: its files, and its prompts and scores against lm-evaluation-harness' own definitions of the tasks."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path

import pytest
import yaml

from mm1.errors import DataError
from mm1.evals.asking import ask, parts_of, questions_of
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import EvalConfig
from mm1.evals.harness import evaluate
from mm1.evals.plan import plan
from mm1.evals.tasks.groups import GROUPS
from mm1.evals.tasks.registry import TASKS
from mm1.generation.prompt import Likelihood
from tests.support.official_files import write
from tests.support.official_textcore import PARQUET_WRITERS, WRITERS

NAMES = GROUPS["textcore"]


def items(folder, name, split=None):
    return TASKS[name].items(folder, split or TASKS[name].splits[0])


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory):
    root = tmp_path_factory.mktemp("parquet")
    for name, write_rows in PARQUET_WRITERS.items():
        write_rows(root / name)
    return BenchmarkFolder(root, "test")


@pytest.mark.parametrize("name", NAMES)
def test_official_files_and_parquet_files_give_the_same_items(folder, hugging_face, name):
    for split in (TASKS[name].splits[0], TASKS[name].demonstration_split):
        if name != "lambada" or split == "test":
            official, parquet = items(folder, name, split), items(hugging_face, name, split)
            pairs = zip(official, parquet, strict=True)
            assert all((a.question, a.answer, a.references) == (b.question, b.answer, b.references) for a, b in pairs)
            assert [item.choices for item in official] == [item.choices for item in parquet]


def test_each_benchmark_has_a_writer():
    assert {TASKS[name].folder or name for name in NAMES} == set(WRITERS) == set(PARQUET_WRITERS)


# -- against lm-evaluation-harness --------------------------------------------------------------------------------------

DEFINITIONS = {
    "arc_easy": "arc/arc_easy.yaml",
    "piqa": "piqa/piqa.yaml",
    "lambada": "lambada/lambada_openai.yaml",
    "sciq": "sciq/sciq.yaml",
    "triviaqa": "triviaqa/default.yaml",
    "webqs": "webqs/webqs.yaml",
}


def harness_tasks() -> Path:
    spec = importlib.util.find_spec("lm_eval")
    if spec is None or not spec.origin:
        pytest.skip("lm_eval is not installed")
    return Path(spec.origin).parent / "tasks"


def program(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parquet_rows(folder, name):
    task = TASKS[name]
    import pyarrow.parquet as pq

    pattern = "ARC-Easy/test-*" if name == "arc_easy" else f"{task.splits[0]}-*"
    (path,) = folder.of_benchmark(task.name, task.folder).find_all(f"{pattern}.parquet")
    return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("name", DEFINITIONS)
def test_prompts_and_choices_are_those_of_the_harness(hugging_face, name):
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)
    text = (harness_tasks() / DEFINITIONS[name]).read_text().replace("!function", "")
    definition = yaml.safe_load(text)
    rows = parquet_rows(hugging_face, name)
    for item, row in zip(items(hugging_face, name), rows, strict=False):
        assert item.question == environment.from_string(definition["doc_to_text"]).render(**row)
        if item.choices:
            render = environment.compile_expression(definition["doc_to_choice"].strip("{} "))
            assert list(item.choices) == list(render(**row))
            target = definition["doc_to_target"]
            if isinstance(target, str):
                target = environment.compile_expression(target.strip("{} "))(**row)
            assert item.answer == item.choices[target]
    if definition["output_type"] == "generate_until":
        assert TASKS[name].stop == tuple(definition["generation_kwargs"]["until"])


def test_hellaswag_is_cleaned_as_in_the_harness(hugging_face):
    utils = program(harness_tasks() / "hellaswag/utils.py")
    for item, row in zip(items(hugging_face, "hellaswag"), parquet_rows(hugging_face, "hellaswag"), strict=True):
        context = f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}"
        assert item.question == utils.preprocess(context)
        assert list(item.choices) == list(map(utils.preprocess, row["endings"]))


def test_winogrande_compares_the_rest_of_the_sentence_after_each_option(hugging_face):
    utils = program(harness_tasks() / "winogrande/preprocess_winogrande.py")
    (planned,) = plan(hugging_face, EvalConfig(tasks=("winogrande",), controls=False))
    (part,) = parts_of([planned])
    for question, row in zip(questions_of(part), parquet_rows(hugging_face, "winogrande"), strict=True):
        prompts, endings = zip(*question.scored, strict=True)
        assert ["".join(prompt.prompt) for prompt in prompts] == utils.doc_to_choice(row)
        assert set(endings) == {(" " + utils.doc_to_target(row),)}


def test_webqs_accepts_every_answer(folder):
    item = items(folder, "webqs")[0]
    assert item.references == ('Ring "0" of gold', "Gold")
    accuracy = TASKS["webqs"].metrics["accuracy"]
    assert accuracy([" Gold, I think", "Golden", 'ring "0" of gold'], [item] * 3) == [1.0, 0.0, 1.0]


# -- choices ------------------------------------------------------------------------------------------------------------


class Table:
    """A model that knows the likelihood of each continuation of a prompt."""

    name, can_score = "table", True

    def __init__(self, likelihood):
        self.likelihood = likelihood

    def score(self, asks, continuations, on_batch=None):
        on_batch(len(asks))
        return [
            [Likelihood(self.likelihood("".join(each.prompt), text), 1, False) for text in texts]
            for each, texts in zip(asks, continuations, strict=True)
        ]

    def embed_images(self, images):
        return None


def test_the_option_with_the_likelier_rest_is_the_answer_and_progress_counts_items(folder, official):
    calls = []
    model = Table(lambda prompt, text: 0.0 if prompt.endswith("Dennis") else -9.0)
    config = EvalConfig(tasks=("winogrande",), controls=False)
    result = evaluate(model, official, "test", config, lambda *call: calls.append(call))
    assert [answer.prediction for answer in result.results[0].answers] == ["Dennis"] * 4
    (score,) = result.scores
    assert (score.metric, score.value, score.chance) == ("accuracy", 0.5, 0.5) and calls[-1] == (4, 4)


def test_choices_are_compared_by_sum_and_per_character(folder, official):
    model = Table(lambda prompt, text: -math.sqrt(len(text)))
    result = evaluate(model, official, "test", EvalConfig(tasks=("hellaswag",), controls=False), lambda *call: None)
    shortest, longest = "sleep.", "pull. Pull again."
    assert [answer.prediction for answer in result.results[0].answers] == [shortest] * 4
    values = [answer.values["accuracy_norm"] for answer in result.results[0].answers]
    assert values == [float(answer.trial.item.answer == longest) for answer in result.results[0].answers]


def test_equal_choices_after_normalisation_are_different_answers(tmp_path):
    rows = [{"goal": "open it", "sol1": "pull a ring", "sol2": "pull the ring"}]
    write(tmp_path / "piqa/valid.jsonl", rows)
    write(tmp_path / "piqa/valid-labels.lst", "1\n")
    model = Table(lambda prompt, text: -float("the" in text))
    result = evaluate(model, tmp_path, "test", EvalConfig(tasks=("piqa",), controls=False), lambda *call: None)
    assert {score.value for score in result.scores} == {0.0}


def test_demonstrations_are_not_balanced_by_accidental_choices(folder):
    """Names recur among the options of WinoGrande; demonstrations of all answers are drawn."""
    (planned,) = plan(folder, EvalConfig(tasks=("winogrande@3",), controls=False))
    sentence = planned.trials[0].request.prefix[0]
    assert sentence.endswith("\n\n") and "_" not in sentence and len(planned.trials[0].demonstrations) == 3


@pytest.mark.parametrize(
    ("name", "file", "content", "message"),
    [
        ("arc_easy", "arc/ARC-Easy-Test.jsonl", '{"id": 1, "question": {"stem": "x"}}', "row 1: an entry lacks 'choices'"),
        (
            "arc_easy",
            "arc/ARC-Easy-Test.jsonl",
            '{"id": "1", "question": {"stem": "x", "choices": [{"text": "a", "label": "A"}]}, "answerKey": "B"}',
            "row 1 .*answerKey: expected one of A, got 'B'",
        ),
        ("piqa", "piqa/valid-labels.lst", "0\n1\n", "row 3 .*valid-labels.lst has no line 3"),
        ("piqa", "piqa/valid-labels.lst", "0\n1\n0\n1\n1\n", "5 labels for 4 questions"),
        ("piqa", "piqa/valid-labels.lst", "0\n2\n0\n1\n", "valid-labels.lst, line 2: expected 0 or 1"),
        ("piqa", "piqa/valid.jsonl", '{"goal": "x", "sol1": " ", "sol2": "b"}', "row 1 .*a choice is empty"),
        ("winogrande", "winogrande/dev.jsonl", '{"sentence": "x", "option1": "a", "option2": "b", "answer": "1"}', "no gap _"),
        ("hellaswag", "hellaswag/hellaswag_val.jsonl", "{", r"hellaswag_val.jsonl, row 1"),
        ("sciq", "sciq/test.json", '[{"question": "x"}]', "row 1: an entry lacks 'support'"),
        ("triviaqa", "triviaqa/unfiltered-web-dev.json", '{"Data": [{"Question": "x"}]}', "row 1: an entry lacks 'QuestionId'"),
        ("webqs", "webqs/webquestions.examples.test.json", '[{"utterance": "x", "targetValue": "()"}]', "row 1 .*no answers"),
        ("lambada", "lambada/lambada_test.jsonl", '{"text": "word"}', "row 1 .*a passage of one word"),
    ],
)
def test_damaged_rows_are_named(tmp_path, name, file, content, message):
    for folder, write_files in WRITERS.items():
        if folder == (TASKS[name].folder or name):
            write_files(tmp_path / folder)
    (path,) = list(tmp_path.rglob(Path(file).name)) or [tmp_path / file]
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        items(BenchmarkFolder(tmp_path, "test"), name)
    assert str(tmp_path) in str(caught.value)


def test_the_plain_text_of_lambada_is_read_without_openais(tmp_path):
    write(tmp_path / "lambada/lambada_test_plain_text.txt", "the man took the ring .\n\nit was red\n")
    read = items(BenchmarkFolder(tmp_path, "test"), "lambada")
    assert [(item.question, item.answer) for item in read] == [("the man took the ring", "."), ("it was", "red")]


def test_asking_keeps_the_order_of_questions_with_and_without_endings(folder):
    (planned,) = plan(folder, EvalConfig(tasks=("winogrande",), controls=False))
    questions = questions_of(parts_of([planned])[0])
    replies = ask(questions, Table(lambda prompt, text: -len(prompt)), lambda count: None)
    assert [len(reply) for reply in replies] == [2] * 4
