"""Tasks on the toy world's own files: several images, steps, names that more demonstrations explain."""

from __future__ import annotations

import pytest

from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import EvalConfig
from mm1.evals.demonstrations import DemonstrationPool
from mm1.evals.items import Item
from mm1.evals.plan import plan
from mm1.evals.tasks.groups import GROUPS
from mm1.evals.tasks.registry import TASKS, planned_scores
from mm1.world.config import WorldConfig
from mm1.world.steps import SO
from mm1.world.text_items import ITEM_KINDS
from mm1.world.write import write_part

SETS = ("compare", "count_across", "steps", "steps_cot")


@pytest.fixture(scope="module")
def folder(made_once):
    def write(path):
        config = WorldConfig.small().model_copy(update={"num_eval_items": 30})
        write_part("benchmarks", path / "world", config)

    return BenchmarkFolder(made_once("world-tasks", write) / "world", "dev")


def only_round(folder, name, shots, **fields):
    config = EvalConfig(tasks=(f"{name}@{shots}",), items=None, **{"controls": False} | fields)
    (planned,) = plan(folder, config)
    return planned


@pytest.mark.parametrize("name", SETS)
def test_prompts_show_all_images_of_a_question_before_it(folder, name):
    planned = only_round(folder, name, 4)
    assert len(planned.trials) == 30
    for trial in planned.trials:
        parts = trial.request.segments
        images = [part for part in parts if not isinstance(part, str)]
        assert len(images) == sum(len(item.images) for item in (*trial.demonstrations, trial.item))
        assert {item.question_type for item in trial.demonstrations} == {trial.item.question_type}
        assert not isinstance(parts[0], str)


def test_only_the_demonstrations_of_the_second_variant_show_steps(folder):
    plain, with_steps = (only_round(folder, name, 4) for name in ("steps", "steps_cot"))
    assert [trial.item for trial in plain.trials] == [trial.item for trial in with_steps.trials]
    for planned, expected in ((plain, False), (with_steps, True)):
        for trial in planned.trials:
            shown = " ".join(part for part in trial.request.prefix if isinstance(part, str))
            assert shown.count(f" {SO} ") == (4 if expected else 0)
            assert SO not in "".join(part for part in trial.request.prompt if isinstance(part, str)).split()


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    ("text", "answer"), [("two and one so first", "first"), (" first", "first"), ("big and small so no", "no")]
)
def test_the_answer_follows_the_steps(name, text, answer):
    assert TASKS[name].extract(text, Item(id="1")) == answer


def test_chance_is_one_over_the_possible_answers(folder):
    assert only_round(folder, "compare", 0).chance == 0.5
    assert only_round(folder, "count_across", 0).chance == pytest.approx(1 / 5)


def test_more_demonstrations_explain_more_names(folder):
    task = TASKS["codes"]
    items = task.items(folder, "dev")
    pool = DemonstrationPool(task.name, task.demonstrations(folder, "dev"), task.same_type, task.balanced)
    known = [
        sum(item.answer in {example.answer for example in pool.draw(item, shots, 0)} for item in items) / len(items)
        for shots in (4, 8, 16)
    ]
    assert known == sorted(set(known)), known
    assert known[0] < 0.75 < 0.9 < known[-1]


def test_controls_replace_all_images_of_a_question(folder):
    planned = only_round(folder, "compare", 4, controls=True)
    by_control = {control: [t for t in planned.trials if t.control == control] for control in ("none", "shuffled")}
    for own, swapped in zip(by_control["none"], by_control["shuffled"], strict=True):
        assert len(own.images) == len(swapped.images) == 2
        assert set(own.images).isdisjoint(swapped.images)


def test_groups_are_the_tasks_of_the_toy_world(folder):
    assert GROUPS["toy-text"] == tuple(f"text_{kind}" for kind in ITEM_KINDS)
    scores = planned_scores("toy-text toy-fewshot", "0 4", controls=False, split="dev")
    assert {("toy-text", 0, "none"), ("toy-fewshot", 0, "none"), ("toy-fewshot", 4, "none")} <= scores
    assert all(TASKS[name].items(folder, "dev") for group in ("toy-text", "toy-fewshot") for name in GROUPS[group])
