"""Answers that a judge grades: LLaVA-Bench and MM-Vet."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mm1.errors import DataError
from mm1.evals.config import EvalConfig
from mm1.evals.grading import Judge, grades_in
from mm1.evals.harness import evaluate
from mm1.evals.models.own import OwnModel
from mm1.evals.replies import KeptReplies
from mm1.evals.tasks.registry import TASKS
from mm1.generation.generator import Generator
from mm1.generation.prompt import Completion
from tests.support.benchmark_files import write_llava_w, write_mmvet
from tests.support.tiny_mm1 import tiny_mm1


class RuleJudge:
    """Grades by the length of its prompt, in place of a model that can."""

    name, can_score = "rule", False

    def __init__(self, reply="{} 5"):
        self.reply, self.prompts = reply, []

    def generate(self, asks, *, max_new_tokens, stop=(), on_batch=None):
        prompts = [ask.messages[0].content[0] for ask in asks]
        self.prompts += prompts
        return [Completion(self.reply.format(8), (1,), "stop", 9) for _ in prompts]


@pytest.fixture(scope="module")
def model():
    return OwnModel(Generator(*tiny_mm1()))


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory):
    root = tmp_path_factory.mktemp("benchmarks")
    write_llava_w(root / "llava_w")
    write_mmvet(root / "mmvet")
    return root


@pytest.fixture(autouse=True)
def short_answers(monkeypatch):
    """The context of the tiny model is shorter than the answers of the benchmarks."""
    for name in ("llava_w", "mmvet"):
        monkeypatch.setitem(TASKS, name, replace(TASKS[name], max_new_tokens=8))


def run(model, benchmarks, task, judge=None):
    return evaluate(model, benchmarks, "test", EvalConfig(tasks=(task,), controls=False), lambda *_: None, judge=judge)


def test_llava_w_is_relative_to_the_references(model, benchmarks):
    judge = RuleJudge()
    evaluation = run(model, benchmarks, "llava_w", Judge("rule", lambda: judge))
    scores = {score.metric: score.value for score in evaluation.scores}
    assert scores == pytest.approx({"grade": 0.5, "reference_grade": 0.8, "relative_grade": 100 * 5 / 8})
    answers = evaluation.results[0].answers
    assert all("A ring." in prompt and "It is a ring." in prompt for prompt in judge.prompts)
    assert [answer.prediction in prompt for answer, prompt in zip(answers, judge.prompts, strict=True)] == [True] * 3


def test_mmvet_has_a_grade_per_item(model, benchmarks):
    evaluation = run(model, benchmarks, "mmvet", Judge("rule", lambda: RuleJudge("0.{}")))
    assert [(score.metric, score.value, score.num_items) for score in evaluation.scores] == [("grade", pytest.approx(0.8), 3)]
    assert all(answer.values == {"grade": 0.8} for answer in evaluation.results[0].answers)


def test_without_a_judge_answers_are_kept_and_have_no_score(model, benchmarks, caplog):
    evaluation = run(model, benchmarks, "mmvet")
    assert evaluation.scores == () and len(evaluation.results[0].answers) == 3
    assert "name a judge (--judge)" in caplog.text


def test_a_judge_that_gives_no_grades_is_refused(model, benchmarks):
    with pytest.raises(DataError, match=r"judge rule: 3 of 3 replies have no 2 number.*stronger model"):
        run(model, benchmarks, "llava_w", Judge("rule", lambda: RuleJudge("nice")))


def test_a_prompt_that_a_judge_repeats_is_no_grade(model, benchmarks):
    class Echo(RuleJudge):
        def generate(self, asks, *, max_new_tokens, stop=(), on_batch=None):
            return [Completion(ask.messages[0].content[0], (1,), "stop", 9) for ask in asks]

    for task in ("llava_w", "mmvet"):
        with pytest.raises(DataError, match="stronger model"):
            run(model, benchmarks, task, Judge("echo", Echo))


def test_references_without_any_grade_are_refused(model, benchmarks):
    with pytest.raises(DataError, match="all reference answers have the grade 0"):
        run(model, benchmarks, "llava_w", Judge("rule", lambda: RuleJudge("0 0")))


def test_a_judge_that_was_refused_is_asked_again(model, benchmarks, tmp_path):
    kept = KeptReplies(tmp_path, "rule")
    with pytest.raises(DataError):
        run(model, benchmarks, "mmvet", Judge("rule", lambda: RuleJudge("nice"), kept))
    evaluation = run(model, benchmarks, "mmvet", Judge("rule", lambda: RuleJudge("0.{}"), kept))
    assert evaluation.scores[0].value == pytest.approx(0.8)


def test_the_judge_is_not_asked_twice(model, benchmarks, tmp_path):
    kept = KeptReplies(tmp_path, "rule")
    first = run(model, benchmarks, "mmvet", Judge("rule", lambda: RuleJudge("0.{}"), kept))
    again = run(model, benchmarks, "mmvet", Judge("rule", lambda: pytest.fail("asked again"), kept))
    assert first.scores == again.scores


@pytest.mark.parametrize(
    ("reply", "wanted"),
    [
        ("8 5", (0.8, 0.5)),
        ("8.5, 9", (0.85, 0.9)),
        ("Answer 1: 8/10\n7 6", (0.7, 0.6)),
        ("The grades are:\n10 1\nbecause of v2", (1.0, 0.1)),
        ("11 5", None),
        ("good", None),
        ("7", None),
        ("8/10 9/10", (0.8, 0.9)),
        ("8.5 / 10.0, 9 / 10", (0.85, 0.9)),
        ("Answer 1: 8, answer 2: 9", None),
        ("Assistant 8\n9", None),
        ("reference 8, model 9\nso 8 and 9", (0.8, 0.9)),
        ("reference 8, model 9\nno: 7 and 9", None),
    ],
)
def test_grades_are_read_from_the_reply(reply, wanted):
    grades = grades_in(reply, TASKS["llava_w"].grading)
    assert (tuple(grades[name] for name in ("reference_grade", "grade")) if grades else None) == wanted
