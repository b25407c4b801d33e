"""A tiny model on all benchmarks once; groups of tasks and tasks of a Python file."""

from __future__ import annotations

import math

import pytest

from mm1.errors import ConfigurationError
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import EvalConfig
from mm1.evals.harness import evaluate
from mm1.evals.models.own import OwnModel
from mm1.evals.tasks import registry
from mm1.evals.tasks.groups import GROUPS, expand, group_scores
from mm1.evals.tasks.names import parse_name
from mm1.generation.generator import Generator
from mm1.manifests import Score
from tests.support.official_files import write
from tests.support.tiny_mm1 import tiny_mm1


@pytest.fixture(scope="module")
def evaluation(official):
    tasks = ("textcore", "mm1-fewshot", "nocaps:test", "textvqa_ocr")
    config = EvalConfig(tasks=tasks, shots=(0, 2), items=2, controls=False)
    return evaluate(OwnModel(Generator(*tiny_mm1(context=1024))), official, "test", config, lambda done, total: None)


def test_every_task_is_scored_and_a_test_set_only_answered(evaluation):
    scored = {(score.task, score.shots) for score in evaluation.scores}
    assert {(name, 0) for name in GROUPS["textcore"]} <= scored
    assert {(parse_name(name).base, shots) for name in GROUPS["mm1-fewshot"] for shots in (0, 2)} <= scored
    (unscored,) = {result.split for result in evaluation.results if not result.scores}
    assert unscored == "test" and all(result.answers for result in evaluation.results)


def test_the_mean_of_a_group_is_over_the_first_metrics_of_its_tasks(evaluation):
    for group, shots in (("textcore", 0), ("mm1-fewshot", 0), ("mm1-fewshot", 2)):
        (mean,) = [score for score in evaluation.scores if (score.task, score.shots) == (group, shots)]
        headlines = {result.task.name: result.task.headline for result in evaluation.results}
        members = [
            score
            for score in evaluation.scores
            for member in GROUPS[group]
            if (score.task, score.shots, score.metric) == (parse_name(member).base, shots, headlines.get(score.task))
            and score.split == (parse_name(member).split or score.split)
            and score.value is not None
        ]
        assert len(members) == len(GROUPS[group]) and mean.metric == "mean"
        assert mean.value == pytest.approx(sum(score.value for score in members) / len(members))
        assert mean.stderr == pytest.approx(math.sqrt(sum(score.stderr**2 for score in members)) / len(members))
        assert mean.num_items == sum(score.num_items for score in members)


def test_a_group_without_one_of_its_tasks_has_no_mean():
    rows = [
        Score(task=name, split="test", metric="accuracy", shots=0, value=1, stderr=0, num_items=1)
        for name in GROUPS["textcore"]
    ]
    headlines = dict.fromkeys(GROUPS["textcore"], "accuracy")
    assert [score.task for score in group_scores(rows, headlines)] == ["textcore"]
    assert not group_scores(rows[1:], headlines)
    assert not group_scores([row.model_copy(update={"control": "shuffled"}) for row in rows], headlines)


def test_a_group_expands_with_its_shots_and_each_task_once():
    assert expand(["textcore@5"])[0] == "arc_easy@5" and len(expand(["textcore", "arc_easy"])) == len(GROUPS["textcore"])
    assert "vqav2:val@0,4" in expand(["mm1-fewshot@0,4"]) and expand(["vqa@4"]) == ("vqa@4",)
    assert all(parse_name(member).base in registry.TASKS for members in GROUPS.values() for member in members)


def test_the_gate_knows_the_scores_of_groups():
    scores = registry.planned_scores("textcore mm1-fewshot", "0 4", controls=True, split="test")
    assert {("textcore", 0, "none"), ("mm1-fewshot", 0, "none")} | {
        ("mm1-fewshot", 4, "none"),
        ("coco", 0, "shuffled"),
    } <= scores
    assert ("textcore", 4, "none") not in scores and registry.metrics_of("textcore") == ["mean"]


TASK = """
from dataclasses import replace
from mm1.evals.tasks.vqav2 import vqav2
mine = replace(vqav2, name="mine")
"""


def test_a_python_file_is_a_task(tmp_path):
    write(tmp_path / "mine.py", TASK)
    folder = BenchmarkFolder(tmp_path, "test")
    task = registry.find_task(f"{tmp_path}/mine.py:val@0,4", folder)
    assert task.name == "mine" and task.shots == (0, 4)
    write(tmp_path / "two.py", TASK + 'other = replace(vqav2, name="other")\n')
    write(tmp_path / "none.py", "from mm1.evals.tasks.vqav2 import vqav2\n")
    write(tmp_path / "same.py", TASK + 'other = replace(vqav2, name="mine")\n')
    for name, message in (
        ("two.py", "several tasks: mine, other"),
        ("none.py", "defines no task"),
        ("same.py", "another task has the name 'mine'"),
        ("missing.py", "no such file"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            registry.find_task(str(tmp_path / name), folder)


def test_tasks_are_data_for_their_list():
    for name, task in registry.TASKS.items():
        assert task.name == name and (not task.splits or task.files), name


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import no_such_module\n", r"task.py, line 1: ModuleNotFoundError: No module named 'no_such_module'"),
        ("x = 1\ny = (\n", r"task.py, line 2: SyntaxError"),
        ("x = 1\n\nraise RuntimeError('no files')\n", r"task.py, line 3: RuntimeError: no files"),
    ],
)
def test_a_file_of_a_task_that_does_not_run_is_named_with_the_line(tmp_path, code, message):
    write(tmp_path / "task.py", code)
    with pytest.raises(ConfigurationError, match=message):
        registry.find_task(str(tmp_path / "task.py"), BenchmarkFolder(tmp_path, "test"))
