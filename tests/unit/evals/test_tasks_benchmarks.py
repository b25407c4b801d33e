"""Benchmarks in their official formats: items, prompts, extraction, scores, errors."""

from __future__ import annotations

import json

import pytest

from mm1.data.images import decode_image
from mm1.errors import ConfigurationError, DataError
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import EvalConfig
from mm1.evals.demonstrations import DemonstrationPool
from mm1.evals.plan import plan
from mm1.evals.prompts import PromptWriter
from mm1.evals.tasks.registry import TASKS
from mm1.generation.tiles import Detailed
from tests.support.benchmark_files import (
    MMBENCH_HEAD,
    WRITERS,
    mathvista_entry,
    write_all,
    write_mmbench,
)
from tests.support.official_files import write

NAMES = sorted({*WRITERS, "scienceqa_cot", "mathvista_cot"})


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("benchmarks"))


@pytest.fixture(scope="module")
def folder(root):
    return BenchmarkFolder(root, "test")


def items_of(folder, name, split=None):
    task = TASKS[name]
    return task.items(folder, task.split(folder, split))


def prompt_of(task, item, style="chat"):
    request = PromptWriter.of(task, EvalConfig(tasks=("x",), style=style)).request(item, (), item.images)
    return request.messages[0].content if style == "chat" else request.prompt


@pytest.mark.parametrize("name", NAMES)
def test_every_item_has_images_a_question_an_answer_and_readable_pixels(folder, name):
    items = items_of(folder, name)
    assert items and len({item.id for item in items}) == len(items)
    for item in items:
        assert item.images and item.question and item.answer and item.references
        for image in item.images:
            assert decode_image(image.read_bytes()).size[0] > 0 and str(image)
        images = [part for part in prompt_of(TASKS[name], item) if not isinstance(part, str)]
        assert tuple(images) == item.images
        assert "<image" not in "".join(part for part in prompt_of(TASKS[name], item) if isinstance(part, str))


@pytest.mark.parametrize("name", NAMES)
def test_the_right_answers_score_best(folder, name):
    task, items = TASKS[name], items_of(folder, name)
    predictions = [task.extract(task.reply(item), item) for item in items]
    for metric in task.metrics.values():
        assert metric(predictions, items) == [1.0] * len(items)
    best = {"mme_perception": 400.0, "mme_cognition": 200.0, "yes_share": 0.5}
    for metric_name, metric in task.corpus_metrics.items():
        assert metric(predictions, items) == pytest.approx(best.get(metric_name, 1.0))
    for metric in task.metrics.values():
        assert sum(metric(["no such thing"] * len(items), items)) == 0


def test_mme_counts_pairs_and_sums_subtasks(folder):
    task, items = TASKS["mme"], items_of(folder, "mme")
    assert {item.question_type for item in items} == {"existence", "artwork", "code_reasoning"}
    always_yes = ["yes"] * len(items)
    assert task.corpus_metrics["mme_perception"](always_yes, items) == pytest.approx(2 * 50)
    assert task.corpus_metrics["mme_cognition"](always_yes, items) == pytest.approx(50)
    assert task.extract("Yes, it is a ring.", items[0]) == "yes" and task.extract("A ring", items[0]) == ""


def test_mmbench_asks_every_rotation_and_counts_whole_questions(folder):
    task, items = TASKS["mmbench"], items_of(folder, "mmbench")
    first = [item for item in items if item.group == "7"]
    assert [item.options for item in first] == [("red", "blue", "green"), ("blue", "green", "red"), ("green", "red", "blue")]
    assert [item.answer for item in first] == ["B", "A", "C"] and len(items) == 5
    assert "a hint\nof two lines\nWhich colour?\nA. red\nB. blue\nC. green" in prompt_of(task, first[0])[-1]
    assert items[-1].images == first[0].images, "a row can refer to the image of another row"
    once_wrong = ["B", "A", "A", "A", "B"]
    assert task.metrics["accuracy"](once_wrong, items) == [1, 1, 0, 1, 1]
    assert task.corpus_metrics["circular_accuracy"](once_wrong, items) == 0.5


def test_mmbench_takes_rotations_from_a_file_that_has_them_and_a_test_set(tmp_path):
    rows = [
        (7, "Which?", "nan", "red", "blue", "", "", "", "colour", "aGk="),
        (1_000_007, "Which?", "", "blue", "red", "", "", "", "colour", "7"),
    ]
    write_mmbench(tmp_path / "mmbench", rows)
    (tmp_path / "mmbench" / "MMBench_DEV_EN.tsv").rename(tmp_path / "mmbench" / "MMBench_TEST_EN.tsv")
    items = items_of(BenchmarkFolder(tmp_path, ""), "mmbench", "test")
    assert [item.options for item in items] == [("red", "blue"), ("blue", "red")]
    assert not any(item.references for item in items) and {item.group for item in items} == {"7"}


def test_mmmu_places_images_in_question_and_options(folder):
    task, (chosen, open_ended) = TASKS["mmmu"], items_of(folder, "mmmu")
    assert len(chosen.images) == 3 and chosen.images[1] == chosen.images[2]
    prompt = prompt_of(task, chosen)
    assert [part if isinstance(part, str) else "I" for part in prompt[:4]] == ["Compare ", "I", " with ", "I"]
    assert chosen.options == ("<image>", "a cross", "it's red") and chosen.question_type == "Art"
    assert open_ended.references == ("4", "four")
    assert task.metrics["accuracy"](["B", "There are four rings"], [chosen, open_ended]) == [1, 1]
    assert task.metrics["accuracy"](["A", "There are five rings"], [chosen, open_ended]) == [0, 0]


def test_videos_of_seed_are_left_out_and_names_with_digits_are_exact(folder):
    items = items_of(folder, "seed")
    assert [item.images[0].name for item in items] == ["145_25.jpg", "77_1.jpg"]


def test_demonstrations_come_from_the_split_of_the_benchmark(folder):
    config = EvalConfig(tasks=("scienceqa_cot", "mathvista_cot", "mmmu", "nlvr2"), shots=(1,), controls=False)
    for each in plan(folder, config):
        assert each.trials
        for trial in each.trials:
            (example,) = trial.demonstrations
            assert example.id != trial.item.id
    task = TASKS["scienceqa_cot"]
    (example,) = DemonstrationPool("x", task.demonstrations(folder, "test"), task.same_type).draw(
        items_of(folder, "scienceqa_cot")[0], 1, 0
    )
    assert task.reply(example).startswith("Rings are round. It is round. The answer is ")


def test_an_answer_after_its_steps_is_found():
    extract = TASKS["scienceqa_cot"].extract
    item = items_of_options("ring", "cross")
    assert extract("The answer is A? No, it is round. The answer is B.", item) == "B"
    assert extract("It is round.\nSo the answer is (b)", item) == "B"
    assert extract("It is round.\ncross", item) == "B"


def items_of_options(*options):
    from mm1.evals.items import Item

    return Item(id="1", options=options)


def test_only_the_query_and_the_last_demonstrations_are_divided(folder):
    """Mixed resolution: an overview, then four crops from the top left to the bottom right."""
    config = EvalConfig(
        tasks=("scienceqa_cot",), shots=(2,), controls=False, style="chat", items=1, sub_images_px=16, sub_image_shots=1
    )
    (trial,) = plan(folder, config)[0].trials
    turns = [*trial.request.prefix[::2], *trial.request.messages]
    counts = [sum(not isinstance(part, str) for part in turn.content) for turn in turns]
    assert counts == [1, 5, 5]
    overview, *crops = (decode_image(part.read_bytes()) for part in turns[-1].content[:5])
    whole = decode_image(trial.item.images[0].read_bytes())
    assert overview.tobytes() == whole.resize((16, 16)).tobytes()
    large = whole.resize((32, 32))
    corners = [(0, 0), (16, 0), (0, 16), (16, 16)]
    assert [crop.tobytes() for crop in crops] == [large.crop((x, y, x + 16, y + 16)).tobytes() for x, y in corners]


def test_the_models_own_layout_divides_the_query_and_the_last_demonstrations(folder):
    options = {"controls": False, "style": "chat", "items": 1, "sub_images_of_model": True, "sub_image_shots": 1}
    (trial,) = plan(folder, EvalConfig(tasks=("scienceqa_cot",), shots=(2,), **options))[0].trials
    turns = [*trial.request.prefix[::2], *trial.request.messages]
    assert [isinstance(turn.content[0], Detailed) for turn in turns] == [False, True, True]
    assert turns[-1].content[0].read_bytes() == trial.item.images[0].read_bytes(), "another model gets the whole image"
    assert "sub_images_of_model" not in EvalConfig(tasks=("vqa",)).model_dump(), "as in earlier reports"


def test_refcoco_converts_pixels_and_reads_rows(tmp_path):
    WRITERS["refcoco"](tmp_path / "refcoco")
    folder = BenchmarkFolder(tmp_path, "")
    items = items_of(folder, "refcoco", "testA")
    assert [item.answer for item in items] == ["125 62 625 343", "250 62 750 343"]  # of 16 pixels
    assert "Where is testA ring 1?" in prompt_of(TASKS["refcoco"], items[0])[-1]
    name = "COCO_train2014_000000000001.jpg"
    rows = [{"image": name, "sentences": [{"raw": "the ring"}, {"raw": "a red ring"}], "bbox": [0, 0, 16, 8]}]
    write(tmp_path / "refcoco" / "refcoco_train.jsonl", rows)
    rows = items_of(folder := BenchmarkFolder(tmp_path, ""), "refcoco", "train")
    assert [(item.question, item.answer) for item in rows] == [("the ring", "0 0 999 500"), ("a red ring", "0 0 999 500")]
    metrics = TASKS["refcoco"].metrics
    assert metrics["accuracy_iou50"](["[0, 0, 999, 300]"] * 2, rows) == [1.0, 1.0]
    assert metrics["mean_iou"](["[0, 0, 999, 250]"] * 2, rows) == [0.5, 0.5]


# -- damage -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_without_files_says_which_it_needs(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=f"task {TASKS[name].name}: no ") as caught:
        items_of(BenchmarkFolder(tmp_path, ""), name)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "path", "content", "message"),
    [
        (
            "pope",
            "coco_pope_popular.json",
            '{"question_id": 1, "image": "a.jpg", "text": "?"}',
            "row 1: an entry lacks 'label'",
        ),
        ("pope", "coco_pope_popular.json", '{"label": "maybe"}', "got 'maybe'"),
        ("mme", "MME_Benchmark_release_version/count/1.txt", "no tab", "count.1.txt"),
        ("seed", "SEED-Bench.json", "[]", "not in the format"),
        ("scienceqa", "pid_splits.json", '{"test": ["99"]}', "problem 99: an entry lacks '99'"),
        ("ai2d", "questions/0.png.json", '{"questions": {"q": {}}}', "0.png.json"),
        ("chartqa", "ChartQA Dataset/test/test_human.json", '[{"imgname": "x.png"}]', "no file .*x.png"),
        ("docvqa", "val_v1.0_withQT.json", '{"data": [{"questionId": 1}]}', "row 1: an entry lacks"),
        ("mmvet", "mm-vet.json", '{"v1_0": {}}', "row v1_0: an entry lacks 'answer'"),
        ("llava_w", "answers_gpt4.jsonl", "{}", "answers_gpt4.jsonl, row 1"),
        (
            "refcoco",
            "finetune_refcoco_testA.json",
            '{"images": [], "annotations": [{"id": 1}]}',
            "row 1: an entry lacks 'image_id'",
        ),
        (
            "refcocog",
            "finetune_refcocog_test.json",
            '[{"expression": "x", "bbox": [1, 2, 3, 4]}]',
            "expected one of the fields file_name",
        ),
        (
            "refcocoplus",
            "finetune_refcoco+_testA.json",
            '[{"image": "COCO_train2014_000000000001.jpg", "bbox": [1]}]',
            "the fields expression",
        ),
        ("nlvr2", "dev.json", '{"identifier": "dev-0-0-0", "sentence": "x", "label": "perhaps"}', "row 1"),
    ],
)
def test_damage_is_named_with_file_and_row(tmp_path, name, path, content, message):
    WRITERS[name](tmp_path / name)
    write(tmp_path / name / path, content)
    with pytest.raises(DataError, match=message):
        items_of(BenchmarkFolder(tmp_path, ""), name)


def test_a_damaged_row_of_a_table_is_named(tmp_path):
    write(tmp_path / "mmbench" / "MMBench_DEV_EN.tsv", "\t".join(MMBENCH_HEAD) + "\n7\tWhich?\n")
    with pytest.raises(DataError, match=r"row 2.*expected 10 fields, got 2"):
        items_of(BenchmarkFolder(tmp_path, ""), "mmbench")
    write_mmbench(tmp_path / "mmbench", [(7, "Which?", "", "a", "b", "", "", "D", "x", "aGk=")])
    with pytest.raises(DataError, match="'D' is not the letter of one of 2 options"):
        items_of(BenchmarkFolder(tmp_path, ""), "mmbench")


def test_a_parquet_file_that_is_none_is_named(tmp_path):
    write(tmp_path / "mmmu" / "Art" / "validation-0.parquet", "x")
    with pytest.raises(DataError, match=r"validation-0\.parquet: cannot be read as Parquet"):
        items_of(BenchmarkFolder(tmp_path, ""), "mmmu")


def test_mathvista_without_demonstrations_names_the_file(tmp_path):
    write(tmp_path / "mathvista" / "testmini.json", {"1": mathvista_entry(1)})
    with pytest.raises(ConfigurationError, match=r"no file .*demonstrations\.jsonl"):
        items_of(BenchmarkFolder(tmp_path, ""), "mathvista_cot")
    write(tmp_path / "mathvista" / "demonstrations.jsonl", [json.loads('{"pid": "1"}')])
    with pytest.raises(DataError, match="an entry lacks 'steps'"):
        items_of(BenchmarkFolder(tmp_path, ""), "mathvista_cot")
