"""The benchmark files: forms of VQAv2 and COCO, balanced episodes, scenes apart from training and from each other."""

from __future__ import annotations

import io
import json
from collections import Counter
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mm1.coordinates import parse_box
from mm1.world import language, streams
from mm1.world.benchmarks import CAPTION_TASKS, DETAIL_TASKS, VQA_TASKS
from mm1.world.config import EXAMPLES_PER_NAME, WorldConfig
from mm1.world.image_sets import SET_TASKS
from mm1.world.marks import MARKS
from mm1.world.scene import Scene, SceneSampler, Split, held_out_pairs, split_class
from mm1.world.steps import STEP_KINDS, illustrate, two_step
from mm1.world.text_items import ITEM_KINDS, text_items
from mm1.world.write import write_part

CONFIG = WorldConfig.small()


def load(path: Path) -> Any:
    return json.loads(path.read_text())


def vqa(folder: Path, name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    questions = load(folder / f"{name}_questions.json")["questions"]
    annotations = {row["question_id"]: row for row in load(folder / f"{name}_annotations.json")["annotations"]}
    assert len(annotations) == len(questions)
    return [(row, annotations[row["question_id"]]) for row in questions]


@pytest.mark.parametrize("split", ["dev", "test"])
@pytest.mark.parametrize("task", VQA_TASKS)
def test_questions_have_vqav2_form(world: Path, split: str, task: str) -> None:
    folder = world / "benchmarks" / split
    items, demos = vqa(folder, task), vqa(folder, f"{task}_demo")
    assert CONFIG.num_eval_items - 1 <= len(items) <= CONFIG.num_eval_items
    for question, annotation in items + demos:
        assert question["image_id"] == annotation["image_id"]
        assert {answer["answer"] for answer in annotation["answers"]} == {annotation["multiple_choice_answer"]}
        Image.open(folder / "images" / f"{question['image_id']:012d}.jpg").verify()
    types = {annotation["question_type"] for _, annotation in items}
    assert types <= {annotation["question_type"] for _, annotation in demos}
    assert not {q["image_id"] for q, _ in items} & {q["image_id"] for q, _ in demos}


@pytest.mark.parametrize("task", DETAIL_TASKS)
def test_detail_tasks_have_vqav2_form(world: Path, task: str) -> None:
    folder = world / "benchmarks" / "dev"
    items = vqa(folder, task)
    assert len(items) == (CONFIG.num_eval_items // 2 if task == "ocr" else CONFIG.num_eval_items)
    for question, annotation in items:
        assert question["question"].endswith(("?", "."))
        size = Image.open(folder / "images" / f"{question['image_id']:012d}.jpg").size
        assert size == ((64, 64) if task == "ocr" else (32, 32))
        if task in ("grounding", "pointing"):
            assert str(parse_box(annotation["multiple_choice_answer"])) == annotation["multiple_choice_answer"]
    if task == "ocr":
        demonstrations = vqa(folder, "ocr_demo")
        assert len(demonstrations) == CONFIG.demonstrations("ocr")
        assert not {q["image_id"] for q, _ in items} & {q["image_id"] for q, _ in demonstrations}


def test_large_images_have_a_task_of_their_marks(tmp_path: Path) -> None:
    folder = write_part("benchmarks", tmp_path / "benchmarks", CONFIG.model_copy(update={"image_size_px": 64}))
    items = vqa(folder / "test", "mark")
    assert len(items) == CONFIG.num_eval_items and {annotation["multiple_choice_answer"] for _, annotation in items} <= set(
        MARKS
    )


@pytest.mark.parametrize(("task", "sizes"), [("novel", {2}), ("codes", {5, 6})])
def test_episodes_of_names_are_balanced(world: Path, task: str, sizes: set[int]) -> None:
    folder = world / "benchmarks" / "test"
    demos = vqa(folder, f"{task}_demo")
    items = vqa(folder, task)
    for episode in {annotation["question_type"] for _, annotation in items}:
        shown = Counter(a["multiple_choice_answer"] for _, a in demos if a["question_type"] == episode)
        asked = Counter(a["multiple_choice_answer"] for _, a in items if a["question_type"] == episode)
        assert len(shown) in sizes
        assert set(shown.values()) == {EXAMPLES_PER_NAME}
        assert shown.total() >= CONFIG.demonstrations(task)
        assert dict.fromkeys(shown, 1) == asked
        choices = {tuple(a["choices"]) for _, a in items + demos if a["question_type"] == episode}
        assert [set(names) for names in choices] == [set(shown)]
    assert {question["question"] for question, _ in items} == {language.NOVEL_QUESTION}


@pytest.mark.parametrize("task", CAPTION_TASKS)
def test_captions_have_coco_form(world: Path, task: str) -> None:
    folder = world / "benchmarks" / "dev"
    content, demos = load(folder / f"{task}.json"), load(folder / f"{task}_demo.json")
    images = {image["id"]: image for image in content["images"]}
    assert len(content["annotations"]) == len(images) == CONFIG.num_eval_items
    for annotation in content["annotations"]:
        assert (folder / "images" / images[annotation["image_id"]]["file_name"]).exists()
        assert annotation["caption"].startswith("a ")
    assert not set(images) & {image["id"] for image in demos["images"]}


def held_out_phrases() -> set[str]:
    return {f"{language.COLOURS[colour]} {language.SHAPES[shape]}" for shape, colour in held_out_pairs(CONFIG)}


def test_held_out_captions_show_what_other_files_never_name(world: Path) -> None:
    folder = world / "benchmarks" / "test"
    for annotation in load(folder / "captions_heldout.json")["annotations"]:
        assert sum(phrase in annotation["caption"] for phrase in held_out_phrases()) == 1
    others = [p for p in folder.glob("*.json*") if p.name not in ("captions_heldout.json", "vqa_heldout_annotations.json")]
    assert len(others) > 10
    for path in others:
        assert not [phrase for phrase in held_out_phrases() if phrase in path.read_text()], path.name


def test_text_items_can_be_answered_from_their_prompt() -> None:
    sampler = SceneSampler(streams.choices(3, "test"), Split.DEV, held_out_pairs(CONFIG))
    items = text_items(sampler, 20 * len(ITEM_KINDS))
    assert Counter(item["kind"] for item in items) == dict.fromkeys(ITEM_KINDS, 20)
    for item in items:
        words = item["prompt"].split()
        assert item["answer"] in item.get("choices", [item["answer"]])
        if item["kind"] == "binding":
            query = " ".join(words).rsplit(" . ", 1)[1]
            assert f"{query} {item['answer']} ." in item["prompt"]
        elif item["kind"] == "copy":
            assert f"{words[-1]} {item['answer']} " in item["prompt"]
        elif item["kind"] == "sums":
            assert int(words[0]) + int(words[2]) == int(item["answer"])
        elif item["kind"] == "last":
            assert f"the {words[-4]} ran to the {item['answer']} " in item["prompt"]
        elif item["kind"] == "pronoun":
            subject, verb, thing = words[1], words[2], words[4]
            assert item["answer"] == (subject if words[-3] in ("hungry", "tired") else thing), verb
        elif item["kind"] == "bigger":
            assert item["answer"] == max(item["choices"], key=language.ANIMALS_BY_SIZE.index)
        elif item["kind"] == "ending":
            assert item["answer"] == f"eats {language.food_of(words[1])}"
            assert len(set(item["choices"])) == 4
        elif item["kind"] == "steps" and item["choices"] == ["yes", "no"]:
            assert item["answer"] == ("yes" if words[-4] == words[-2] else "no")


def test_each_kind_of_text_has_a_file_of_its_own(world: Path) -> None:
    for kind in ITEM_KINDS:
        rows = [json.loads(line) for line in (world / "benchmarks" / "dev" / f"text_{kind}.jsonl").read_text().splitlines()]
        assert {row["kind"] for row in rows} == {kind}
        assert len(rows) == CONFIG.num_eval_items // 2


@given(st.integers(0, 2**32), st.sampled_from(STEP_KINDS))
def test_steps_lead_from_the_images_to_the_answer(seed: int, kind: str) -> None:
    source = SceneSampler(streams.choices(seed, "test"), Split.DEV, held_out_pairs(CONFIG))
    drawn = two_step(kind, source.rng)
    images = illustrate(kind, drawn, source)
    steps = drawn.steps.split(" and ")
    if kind in ("more", "sum"):
        counts = [len(scene.objects) for scene in images]
        assert steps == [language.COUNTS[count] for count in counts]
        expected = ("second", "first")[counts[0] > counts[1]] if kind == "more" else language.COUNTS[sum(counts)]
    else:
        assert steps == [language.words_of(scene.objects[0])[0] for scene in images]
        expected = "yes" if steps[0] == steps[1] else "no"
    assert drawn.answer == expected
    assert drawn.answer in drawn.options
    assert drawn.reply(with_steps=True) == f"{drawn.steps} so {drawn.reply(with_steps=False)}"


@pytest.mark.parametrize(("task", "kinds"), SET_TASKS.items())
def test_image_sets_have_muirbench_form(world: Path, task: str, kinds: tuple[str, ...]) -> None:
    rows, demos = (
        pq.read_table(world / "benchmarks" / "test" / f"{name}.parquet").to_pylist() for name in (task, f"{task}_demo")
    )
    assert [row["task"] for row in rows] == list(islice(cycle(kinds), CONFIG.num_eval_items))
    assert {row["task"] for row in demos} == set(kinds)
    for row in rows:
        assert row["question"].count("<image>") == len(row["image_list"]) == 2
        assert row["steps"]
        assert row["options"]["ABCDEF".index(row["answer"])]
        for image in row["image_list"]:
            Image.open(io.BytesIO(image["bytes"])).verify()
    pictures = [{image["bytes"] for row in some for image in row["image_list"]} for some in (rows, demos)]
    assert not pictures[0] & pictures[1]


def test_splits_never_share_a_scene() -> None:
    drawn: dict[Split, set[Scene]] = {}
    for split in Split:
        sampler = SceneSampler(streams.choices(5, split.name), split, held_out_pairs(CONFIG))
        scenes = [sampler.any() for _ in range(300)] + [sampler.held_out_scene()[0] for _ in range(50)]
        assert {split_class(scene) for scene in scenes} <= split.value
        drawn[split] = set(scenes)
    assert sum(len(scenes) for scenes in drawn.values()) == len(set().union(*drawn.values()))
