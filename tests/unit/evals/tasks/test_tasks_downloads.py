"""Benchmark folders as they are downloaded: names as other systems spell them, packed files, damaged files and values."""

from __future__ import annotations

import contextlib
import json
import shutil
import unicodedata

import pytest

from mm1.errors import ConfigurationError, DataError
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import EvalConfig
from mm1.evals.files import MissingFile
from mm1.evals.plan import plan
from mm1.evals.tasks.registry import TASKS, find_task
from tests.support import benchmark_files, official_files, official_textcore
from tests.support.official_files import write, write_images
from tests.support.tiny_mm1 import picture, write_benchmarks

WRITERS = official_files.WRITERS | official_textcore.WRITERS | benchmark_files.WRITERS


def local(root, name="test"):
    return BenchmarkFolder(root, name)


@pytest.mark.parametrize(
    ("key", "file"),
    [
        ("a.jpg", "a.JPG"),
        ("A.jpeg", "a.jpeg"),
        ("a b", "A B.WEBP"),
        (unicodedata.normalize("NFC", "é ü.png"), unicodedata.normalize("NFD", "é ü.png")),
        ("images\\a.jpg", "a.jpg"),
        ("[a]*.jpg", "[a]*.jpg"),
        ("0" * 5000 + "12", "x_12.jpg"),
    ],
)
def test_images_are_found_as_other_systems_spell_their_names(tmp_path, key, file):
    write(tmp_path / "test/pairs.json", [{"image": key, "caption": "a ring"}])
    write_images(tmp_path / "test/images", [file, "other.png"])
    (item,) = find_task("pairs", local(tmp_path)).items(local(tmp_path), "test")
    assert item.images[0].name == file


def test_an_exact_name_counts_before_another_spelling(tmp_path):
    write(tmp_path / "test/pairs.json", [{"image": "a.jpg", "caption": "a ring"}, {"image": "A.jpg", "caption": "a cross"}])
    write_images(tmp_path / "test/images", ["a.jpg", "A.jpg"])
    items = find_task("pairs", local(tmp_path)).items(local(tmp_path), "test")
    assert [item.images[0].name for item in items] == ["a.jpg", "A.jpg"]


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "/etc/hosts", "9" * 5000])
def test_names_that_are_no_image_are_refused(tmp_path, key):
    write(tmp_path / "test/pairs.json", [{"image": key, "caption": "a ring"}])
    write_images(tmp_path / "test/images", ["1.jpg"])
    with pytest.raises(DataError, match="no file for image"):
        find_task("pairs", local(tmp_path)).items(local(tmp_path), "test")


def test_the_same_image_in_two_folders_is_one(tmp_path):
    """COCO's images are often in the folders of several benchmarks."""
    write(tmp_path / "test/pairs.json", [{"image": "a.jpg", "caption": "a ring"}])
    for part in ("x", "y"):
        write(tmp_path / "test/images" / part / "a.jpg", picture(1))
    task = find_task("pairs", local(tmp_path))
    assert len(task.items(local(tmp_path), "test")) == 1
    write(tmp_path / "test/images/y/a.jpg", picture(2))
    write(tmp_path / "test/numbers.json", [{"image": "7", "caption": "a ring"}])
    for name in ("a-7.jpg", "b-7.jpg"):
        write(tmp_path / "test/images" / name, picture(1))
    with pytest.raises(DataError, match=r"a-7\.jpg and b-7\.jpg"):
        find_task("numbers", local(tmp_path)).items(local(tmp_path), "test")
    with pytest.raises(DataError, match=r"x/a\.jpg and y/a\.jpg"):
        task.items(local(tmp_path), "test")


def test_files_that_are_still_packed_are_named(tmp_path):
    (tmp_path / "vqav2").mkdir()
    write(tmp_path / "vqav2/v2_Questions_Test_mscoco.zip", b"PK")
    with pytest.raises(MissingFile, match=r"; unpack v2_Questions_Test_mscoco\.zip there first"):
        TASKS["vqav2"].items(local(tmp_path), "testdev")
    write(tmp_path / "mmvet/mm-vet.json.gz", b"x")
    with pytest.raises(MissingFile, match=r"; unpack mm-vet\.json\.gz there first"):
        TASKS["mmvet"].items(local(tmp_path), "test")
    WRITERS["vqav2"](tmp_path / "vqav2")
    shutil.rmtree(tmp_path / "vqav2/test2015")
    write(tmp_path / "vqav2/test2015.zip", b"PK")
    with pytest.raises(DataError, match=r"no file for image .*unpack test2015\.zip"):
        TASKS["vqav2"].items(local(tmp_path), "testdev")


def test_a_line_separator_of_unicode_does_not_end_a_row(tmp_path):
    rows = [{"id": n, "prompt": f"a\u2028b\u0085c\x0c{n}", "answer": "x"} for n in range(2)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in rows)
    write(tmp_path / "test/lines.jsonl", "\ufeff" + text)
    items = find_task("lines", local(tmp_path)).items(local(tmp_path), "test")
    assert [item.question for item in items] == [row["prompt"] for row in rows]


DAMAGE = {
    "empty": b"",
    "cut": None,
    "binary": bytes(range(256)) * 4,
    "null": b"null",
    "text": b'"text"',
    "list": b"[]",
    "object": b"{}",
    "other list": b"[1]",
    "other object": b'{"a": 1}',
    "null in a list": b"[null]",
    "null in an object": b'{"1": null}',
    "huge number": b'[{"question_id": ' + b"9" * 5000 + b"}]",
    "deep lists": b"[" * 50_000,
    "deep objects": b'{"questions":' * 50_000,
}


@pytest.mark.parametrize("name", sorted(name for name, task in TASKS.items() if task.splits))
def test_damaged_files_are_refused_and_named(tmp_path, name):
    task = TASKS[name]
    for writer in {task.folder or name, *(["vqav2"] if name == "okvqa" else [])}:  # OK-VQA's images are VQAv2's
        WRITERS[writer](tmp_path / writer)
    folder = local(tmp_path)
    items = task.items(folder, task.splits[0])
    expected = [(item.id, item.question, item.references) for item in items]
    for file in [path for path in sorted(folder.used) if path.suffix != ".parquet"][:3]:
        data = file.read_bytes()
        for mark in (b"\xef\xbb\xbf", b""):
            file.write_bytes(mark + data.replace(b"\n", b"\r\n") + (b"\r\n" if file.suffix != ".txt" else b""))
            again = task.items(local(tmp_path), task.splits[0])
            assert [(item.id, item.question, item.references) for item in again] == expected
        for content in DAMAGE.values():
            file.write_bytes(data[: len(data) * 2 // 3] if content is None else content)
            try:
                task.items(local(tmp_path), task.splits[0])
            except (DataError, ConfigurationError) as error:
                assert task.folder in str(error) and str(tmp_path) in str(error)
        file.write_bytes(data)


@pytest.mark.parametrize("value", [None, [], {}, True, 1.5, 10**30, "\u2028 é", [None], {"a": 1}, float("nan")])
@pytest.mark.parametrize("file", ["vqa_questions.json", "vqa_annotations.json", "captions.json", "lines.jsonl"])
def test_any_value_in_any_field_is_read_or_refused(tmp_path, file, value):
    write_benchmarks(tmp_path, num_items=2)
    if file == "lines.jsonl":
        write(tmp_path / "test" / file, [{"id": 1, "prompt": "a", "answer": "b", "choices": ["b", "c"], "kind": "x"}])
    path, task = tmp_path / "test" / file, file.partition("_")[0].partition(".")[0]
    text = path.read_text(encoding="utf-8")
    row = json.loads(text)
    lists = [row] if file == "lines.jsonl" else [content[0] for content in row.values() if isinstance(content, list)]
    for fields in lists:
        for key in list(fields):
            kept, fields[key] = fields[key], value
            write(path, [row] if path.suffix == ".jsonl" else row)
            with contextlib.suppress(DataError):
                find_task(task, local(tmp_path)).items(local(tmp_path), "test")
            fields[key] = kept


def test_ids_are_the_same_as_numbers_and_as_texts(tmp_path):
    questions = [{"question_id": "7", "image_id": "12", "question": "?"}]
    annotations = [{"question_id": 7, "answers": [{"answer": "x"}]}]
    for split in ("vqav2", "test"):
        write_images(tmp_path / split / "images", ["COCO_val2014_000000000012.jpg"])
    write(tmp_path / "vqav2/v2_OpenEnded_mscoco_val2014_questions.json", {"questions": questions})
    write(tmp_path / "vqav2/v2_mscoco_val2014_annotations.json", {"annotations": annotations})
    (item,) = TASKS["vqav2"].items(local(tmp_path), "val")
    assert item.id == "7" and item.references == ("x",)
    coco_file = {"images": [{"id": "1", "file_name": "12"}], "annotations": [{"image_id": 1, "caption": "a ring"}]}
    write(tmp_path / "test/numbers.json", coco_file)
    (item,) = find_task("numbers", local(tmp_path)).items(local(tmp_path), "test")
    assert item.references == ("a ring",)


def test_two_items_with_one_id_are_refused(tmp_path):
    WRITERS["pope"](tmp_path / "pope")
    path = tmp_path / "pope/coco_pope_random.json"
    first = path.read_text().splitlines()[0]
    write(path, f"{first}\n{first}\n")
    assert len(TASKS["pope"].items(local(tmp_path), "test")) == 5, "the same row twice is one item"
    write(path, f"{first}\n{first.replace('ring', 'cross')}\n")
    with pytest.raises(DataError, match=r"row 2 .*a second entry with the id random/1"):
        TASKS["pope"].items(local(tmp_path), "test")


def test_a_split_in_the_name_of_an_own_task_is_refused(tmp_path):
    write_benchmarks(tmp_path, num_items=2)
    assert TASKS["vqa"].split(local(tmp_path), "test") == "test"
    with pytest.raises(ConfigurationError, match="--split"):
        plan(local(tmp_path), EvalConfig(tasks=("vqa:dev",), shots=(0,)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sub_images_px": 1_000_000}, "4096"),
        ({"sub_image_shots": 1}, "--sub-images"),
        ({"sub_images_px": 8, "sub_images_of_model": True}, "one of the two"),
    ],
)
def test_sub_images_have_a_side_that_fits_into_memory(fields, message):
    with pytest.raises(ValueError, match=message):
        EvalConfig(tasks=("vqa",), **fields)


def test_more_options_than_letters_are_refused_with_the_row(tmp_path):
    benchmark_files.write_ai2d(tmp_path / "ai2d")
    question = {"answerTexts": [str(n) for n in range(27)], "correctAnswer": 0, "questionId": "0.png-0"}
    content = {"imageName": "0.png", "questions": {"What?": question}}
    write(tmp_path / "ai2d/questions/0.png.json", content)
    with pytest.raises(DataError, match=r"0\.png\.json.*at most 26 options, got 27"):
        TASKS["ai2d"].items(local(tmp_path), "test")
    question["answerTexts"] = [f"{n}, or more" for n in range(26)]
    write(tmp_path / "ai2d/questions/0.png.json", content | {"questions": {"What?": question | {"correctAnswer": 25}}})
    assert TASKS["ai2d"].items(local(tmp_path), "test")[0].answer == "Z"
