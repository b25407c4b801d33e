"""Captioning and questions about images in the official formats: items, prompts, splits, answers, result files."""

from __future__ import annotations

from collections import Counter

import pytest

from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import EvalConfig
from mm1.evals.plan import plan
from mm1.evals.tasks.protocol import short_answer
from mm1.evals.tasks.registry import TASKS
from tests.support.official_files import ANSWERS, WRITERS, write, write_images, write_parquet

CAPTIONS = ("coco", "nocaps", "textcaps")
QUESTIONS = ("vqav2", "textvqa", "vizwiz", "okvqa", "gqa")
DEFAULT_SPLITS = {
    "coco": "test",
    "nocaps": "val",
    "textcaps": "val",
    "vqav2": "testdev",
    "textvqa": "val",
    "vizwiz": "test",
    "okvqa": "val",
    "gqa": "testdev",
}


def items(folder, name):
    task, _, split = name.partition(":")
    return TASKS[task].items(folder, split or TASKS[task].splits[0])


def only_round(folder, name, shots=0, **fields):
    (planned,) = plan(folder, EvalConfig(tasks=(name,), shots=(shots,), controls=False, **fields))
    return planned


def test_the_default_splits_are_those_of_the_paper():
    assert {name: TASKS[name].splits[0] for name in DEFAULT_SPLITS} == DEFAULT_SPLITS


@pytest.mark.parametrize(
    ("name", "count", "first", "image", "kinds"),
    [
        ("coco", 2, "101", "COCO_val2014_000000000101.jpg", {""}),
        ("coco:val", 1, "103", "COCO_val2014_000000000103.jpg", {""}),
        ("coco:train", 5, "104", "COCO_train2014_000000000104.jpg", {""}),
        ("coco:val2014", 4, "101", "COCO_val2014_000000000101.jpg", {""}),
        ("nocaps", 6, "0", "0000000000000000.jpg", {"in-domain", "near-domain", "out-domain"}),
        ("textcaps", 3, "val0000000000", "val0000000000.jpg", {""}),
    ],
)
def test_captions_have_an_item_per_image_with_all_its_captions(folder, name, count, first, image, kinds):
    read = items(folder, name)
    assert len(read) == count and read[0].id == first and read[0].images[0].name == image
    assert {item.question_type for item in read} == kinds
    assert all(len(item.references) == 2 and item.answer == item.references[0] for item in read)


@pytest.mark.parametrize(
    ("name", "count", "first", "image", "kinds"),
    [
        ("vqav2:val", 6, "1000", "COCO_val2014_000000000001.jpg", {"yes/no", "number", "other"}),
        ("vqav2:testdev", 4, "1000", "COCO_test2015_000000000001.jpg", {""}),
        ("vqav2:test", 6, "1000", "COCO_test2015_000000000001.jpg", {""}),
        ("textvqa", 3, "100", "val0000000000.jpg", {""}),
        ("vizwiz:val", 4, "VizWiz_val_00000000.jpg", "VizWiz_val_00000000.jpg", {"yes/no", "number", "other", "unanswerable"}),
        ("vizwiz", 2, "VizWiz_test_00000000.jpg", "VizWiz_test_00000000.jpg", {""}),
        ("okvqa", 3, "10", "COCO_val2014_000000000001.jpg", {"Sports and Recreation"}),
        ("gqa", 3, "2070", "ntestdev0.jpg", {"verify"}),
    ],
)
def test_questions_have_their_images_and_types(folder, name, count, first, image, kinds):
    read = items(folder, name)
    assert len(read) == count and read[0].id == first and read[0].images[0].name == image
    assert {item.question_type for item in read} == kinds
    assert all(bool(item.references) == ("test" not in name.partition(":")[2] and name != "vizwiz") for item in read)


def test_answers_of_annotators_are_kept_and_the_most_frequent_one_is_shown(folder):
    for name in ("vqav2:val", "textvqa", "vizwiz:val"):
        assert all(item.references == tuple(ANSWERS) and item.answer == "red" for item in items(folder, name)), name


def test_a_test_set_without_answers_has_no_scores_but_result_files(folder):
    entries = {
        "nocaps:test": {"image_id": 0, "caption": "a ring"},
        "textcaps:test": {"image_id": "test0000000000", "caption": "a ring"},
        "coco": {"image_id": 101, "caption": "a ring"},
        "vqav2": {"question_id": 1000, "answer": "a ring"},
        "textvqa:test": {"question_id": 100, "answer": "a ring"},
        "vizwiz": {"image": "VizWiz_test_00000000.jpg", "answer": "a ring"},
        "gqa:test": {"questionId": "2040", "prediction": "a ring"},
    }
    for name, entry in entries.items():
        assert TASKS[name.partition(":")[0]].submission(items(folder, name)[0], "a ring") == entry, name


@pytest.mark.parametrize("name", [*CAPTIONS, *QUESTIONS])
def test_demonstrations_are_of_the_training_split_and_never_of_the_query(folder, name):
    task = TASKS[name]
    evaluated = items(folder, name)
    shown = task.demonstrations(folder, task.splits[0])
    assert shown and all(item.references for item in shown)
    assert (name == "nocaps") == bool({item.images for item in shown} & {item.images for item in evaluated})
    for trial in only_round(folder, name, shots=2).trials:
        assert len({example.images for example in trial.demonstrations}) == 2
        assert not {image for example in trial.demonstrations for image in example.images} & set(trial.item.images)


def test_prompts_ends_and_lengths_are_those_of_the_paper(folder):
    for name in CAPTIONS:
        planned = only_round(folder, name, shots=1)
        trial = planned.trials[0]
        (example,) = trial.demonstrations
        assert trial.request.prefix == (*example.images, f"A photo of {example.answer}\n")
        assert trial.request.prompt == (*trial.item.images, "A photo of")
        assert planned.writer.stop == ("\n",) and planned.task.max_new_tokens >= 20
    for name in QUESTIONS:
        planned = only_round(folder, name, shots=1)
        trial = planned.trials[0]
        (example,) = trial.demonstrations
        assert trial.request.prefix == (*example.images, f"Question: {example.question} Short answer: {example.answer}\n")
        assert trial.request.prompt == (*trial.item.images, f"Question: {trial.item.question} Short answer:")
        assert planned.writer.stop == ("\n", ".", ",", "Question") and planned.task.max_new_tokens >= 5
    assert only_round(folder, "vqav2").trials[0].request.prefix == (), "0-shot has no demonstrations, not even of text"


def test_chats_get_the_instructions_on_the_form_of_the_answer(folder):
    short = "Answer the question using a single word or phrase."
    for name in (*CAPTIONS, *QUESTIONS):
        trial = only_round(folder, name, style="chat").trials[0]
        (message,) = trial.request.messages
        text = message.content[-1]
        if name in CAPTIONS:
            assert text == "Provide a one-sentence caption for the provided image."
        else:
            assert text.startswith(f"{trial.item.question}\n") and text.endswith(f"\n{short}")
            assert ("Unanswerable" in text) == (name == "vizwiz")


@pytest.mark.parametrize(
    ("generated", "answer"),
    [
        (" red Question: what", "red"),
        ("red, blue", "red"),
        ("10,000", "10,000"),
        ("a dog Answer: b", "a dog"),
        ("Short", "Short"),
    ],
)
def test_answers_end_at_the_next_cue_or_comma(generated, answer):
    assert short_answer(generated, None) == answer


def test_textvqa_can_show_recognised_words(folder):
    assert items(folder, "textvqa_ocr")[0].question == "what is on sign 0?\nReference OCR tokens: STOP, here"
    assert items(folder, "textvqa")[0].question == "what is on sign 0?"


def test_okvqa_compares_stems_as_its_files_give_them(folder):
    task, (item, *_) = TASKS["okvqa"], items(folder, "okvqa")
    assert item.answer == "riding horses" and Counter(item.references)["ride horse"] == 4
    for generated, value in (
        ("riding horses", 1.0),
        ("Surfing.", 1.0),
        ("ride horse", 1.0),
        ("horse riding", 0.6),
        ("ski", 0.0),
    ):
        prediction = task.extract(generated, item)
        assert task.metrics["accuracy"]([prediction], [item])[0] == pytest.approx(value, abs=0.01), generated


def test_images_of_coco_are_shared_by_the_benchmarks(folder):
    assert "vqav2" in items(folder, "okvqa")[0].images[0].parts


def test_coco_also_reads_files_of_pairs(tmp_path):
    rows = [{"image": "val2014/COCO_val2014_000000000042.jpg", "caption": ["a ring", "one ring"]}]
    write(tmp_path / "coco/coco_karpathy_test.json", rows)
    write_images(tmp_path / "coco/val2014", ["COCO_val2014_000000000042.jpg"])
    (item,) = items(BenchmarkFolder(tmp_path, "test"), "coco")
    assert item.references == ("a ring", "one ring") and item.images[0].name == "COCO_val2014_000000000042.jpg"


@pytest.mark.parametrize(
    ("name", "file", "row", "references"),
    [
        ("vqav2:val", "data/validation-00000-of-00002", {"answers": [{"answer": "red", "answer_id": 1}]}, ("red",)),
        ("textvqa", "data/validation-00000-of-00001", {"answers": ["red", "red"]}, ("red", "red")),
        ("vizwiz:val", "data/val-00000-of-00001", {"answers": ["red"], "category": "other"}, ("red",)),
        ("okvqa", "data/val2014-00000-of-00001", {"answers": ["red"], "answer_type": "other"}, ("red",)),
        ("nocaps", "data/validation-00000-of-00001", {"annotations_captions": ["a ring"], "image_id": 7}, ("a ring",)),
        ("textcaps", "data/val-00000-of-00001", {"reference_strs": ["a ring"], "image_id": "7f"}, ("a ring",)),
    ],
)
def test_parquet_files_have_their_images_in_them(tmp_path, name, file, row, references):
    rows = [{"question_id": 5 + n, "question": "what?", "image": n} | row for n in range(1)]
    write_parquet(tmp_path / name.partition(":")[0] / f"{file}.parquet", rows, images=("image",))
    (item,) = items(BenchmarkFolder(tmp_path, "test"), name)
    assert item.references == references and item.images[0].read_bytes().startswith(b"\x89PNG")


def test_every_writer_is_read(folder):
    assert {TASKS[name].folder or name for name in (*CAPTIONS, *QUESTIONS)} == set(WRITERS)
