"""Benchmark folders: caption files of any form, images by name and number, damaged and missing files, large files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mm1.errors import ConfigurationError, DataError
from mm1.evals import json_stream
from mm1.evals.benchmark_folder import BenchmarkFolder
from mm1.evals.config import EvalConfig
from mm1.evals.files import Files, MissingFile
from mm1.evals.items import Item
from mm1.evals.plan import plan
from mm1.evals.readers.parquet import parquet_rows
from mm1.evals.tasks.registry import TASKS, find_task
from tests.support.official_files import IMAGE, WRITERS, coco, write, write_images
from tests.support.tiny_mm1 import picture

COCO = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "caption": "a ring"}]}
CAPTION_FILES = {
    "nocaps.json": COCO,
    "nocaps_val_4500_captions.json": {"licenses": [], "info": {}, **COCO},
    "annotations_first.json": {"annotations": COCO["annotations"], "images": COCO["images"]},
    "dataset_flickr30k.json": {"images": [{"filename": "1.jpg", "imgid": 0, "split": "x", "sentences": [{"raw": "a ring"}]}]},
    "TextCaps_0.1_val.json": {"data": [{"image_id": "1", "caption_str": "a ring", "reference_strs": ["a ring"]}]},
    "coco_karpathy_test.json": [{"image": "somewhere/1.jpg", "caption": ["a ring"]}],
    "pairs.json": [{"image": "1.jpg", "caption": "a ring"}],
    "lines.jsonl": [{"image": "1.jpg", "caption": "a ring"}],
    "several.jsonl": [{"image": "1.jpg", "captions": ["a ring"]}],
}


def local(root, name="test"):
    return BenchmarkFolder(root, name)


@pytest.mark.parametrize("file", CAPTION_FILES)
def test_any_caption_file_under_its_own_name_is_a_task(tmp_path, file):
    write(tmp_path / "test" / file, CAPTION_FILES[file])
    write_images(tmp_path / "test/images", ["1.jpg", "2.jpg"])
    folder, name = local(tmp_path), file.rpartition(".")[0]
    assert folder.tasks == (name,)
    task = find_task(name, folder)
    (item,) = task.items(folder, "test")
    assert item.references == ("a ring",) and item.images[0].name == "1.jpg" and "cider" in task.metrics


def test_the_official_folder_of_a_benchmark_counts_before_a_file_of_its_name(tmp_path):
    write(tmp_path / "test/nocaps.json", COCO)
    write_images(tmp_path / "test/images", ["1.jpg"])
    assert not find_task("nocaps", local(tmp_path)).splits and find_task("nocaps:val", local(tmp_path)).splits
    WRITERS["nocaps"](tmp_path / "nocaps")
    assert find_task("nocaps", local(tmp_path)).splits


def test_a_large_caption_file_is_recognised_by_its_ends(tmp_path):
    images = [{"id": n, "file_name": f"{n}.jpg", "url": "x" * 500} for n in range(300)]
    write(tmp_path / "test/flickr8k.json", {"images": images, "annotations": [{"image_id": 7, "caption": "a ring"}]})
    write(tmp_path / "test/other.json", {"rows": [{"text": "x" * 200_000}]})
    assert local(tmp_path).tasks == ("flickr8k",)


def test_images_without_captions_are_a_test_set(tmp_path):
    write(tmp_path / "test/unseen.json", {"images": COCO["images"]})
    write_images(tmp_path / "test/images", ["1.jpg"])
    assert [item.references for item in find_task("unseen", local(tmp_path)).items(local(tmp_path), "test")] == [()]


def test_a_set_without_demonstration_files_shows_its_other_items(tmp_path):
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(3)]
    captions = [{"image_id": n, "caption": f"ring {n}"} for n in range(3)]
    write_images(tmp_path / "test/images", [f"{n}.jpg" for n in range(3)])
    write(tmp_path / "test/mine.json", {"images": images, "annotations": captions})
    (planned,) = plan(local(tmp_path), EvalConfig(tasks=("mine",), shots=(2,), controls=False))
    for trial in planned.trials:
        assert trial.item not in trial.demonstrations and len(trial.demonstrations) == 2


# -- images -------------------------------------------------------------------------------------------------------------


def files_with(root, *names):
    write_images(root / "images", names)
    return Files(root, "t")


@pytest.mark.parametrize(
    ("names", "key", "match"),
    [
        (["17.jpg", "a-17.jpg"], 17, "17.jpg"),
        (["COCO_val2014_000000000017.jpg"], 17, "COCO_val2014_000000000017.jpg"),
        (["COCO_val2014_000000000017.jpg"], "0017", "COCO_val2014_000000000017.jpg"),
        (["a-1.jpg", "b-1.jpg", "x_2.png"], 2, "x_2.png"),
        (["left/n1.jpg", "right/n1.jpg"], "right/n1.jpg", "right/n1.jpg"),
        (["photo.JPG"], "photo", "photo.JPG"),
        (["photo.v2.png"], "photo.v2", "photo.v2.png"),
        (["n1.jpg"], "elsewhere/n1.jpg", "n1.jpg"),
    ],
)
def test_an_image_is_found_by_name_stem_or_number(tmp_path, names, key, match):
    assert files_with(tmp_path, *names).image(key) == tmp_path / "images" / match


@pytest.mark.parametrize(
    ("names", "key"),
    [(["a-1.jpg", "b-1.jpg"], 1), (["1.jpg", "1.png"], 1), (["left/n1.jpg", "right/n1.jpg"], "n1.jpg")],
)
def test_several_candidates_are_refused_only_if_they_are_used(tmp_path, names, key):
    files = files_with(tmp_path, *names, "other-2.jpg")
    assert files.image(2).name == "other-2.jpg"
    with pytest.raises(DataError) as caught:
        files.image(key)
    assert all(name in str(caught.value) for name in names)


def test_hidden_files_and_other_kinds_of_files_are_no_images(tmp_path):
    files = files_with(tmp_path, "1.jpg", "._1.jpg", "__MACOSX/1.jpg", ".cache/1.jpg")
    write(tmp_path / "images/2.txt", "not an image")
    assert files.image(1) == tmp_path / "images/1.jpg"
    with pytest.raises(DataError, match=f"no file for image 2 in {tmp_path}"):
        files.image(2)


def test_links_are_followed_once(tmp_path):
    write_images(tmp_path / "pool", ["1.jpg"])
    (tmp_path / "coco/val2014").parent.mkdir()
    (tmp_path / "coco/val2014").symlink_to(tmp_path / "pool")
    (tmp_path / "pool/again").symlink_to(tmp_path / "pool")
    assert Files(tmp_path / "coco", "coco").image(1) == tmp_path / "coco/val2014/1.jpg"


@pytest.mark.parametrize("compliant", [True, False])
def test_lists_of_images_are_read_whatever_their_element_is_called(tmp_path, compliant):
    cells = [[{"bytes": picture(n), "path": None} for n in range(count)] for count in (2, 1)] + [None]
    table = pa.table({"id": [1, 2, 3], "images": pa.array(cells, pa.list_(IMAGE))})
    (tmp_path / "data").mkdir()
    pq.write_table(table, tmp_path / "data/test-00000.parquet", use_compliant_nested_type=compliant)
    rows = list(parquet_rows(Files(tmp_path, "t"), "test-*.parquet"))
    assert [len(row.images["images"]) for row in rows] == [2, 1, 0]
    assert [image.read_bytes() for image in rows[0].images["images"]] == [picture(0), picture(1)]


# -- damaged and missing files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["coco", "nocaps", "textcaps", "vqav2", "textvqa", "vizwiz", "okvqa", "gqa"])
def test_a_missing_file_is_named_as_it_is_published(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(MissingFile, match=r"no file .*\.json") as caught:
        TASKS[name].items(local(tmp_path), TASKS[name].splits[0])
    official = " ".join(TASKS[name].files)
    stem = str(caught.value).partition("no file ")[2].partition(" ")[0]
    assert stem.partition("_")[0].partition("/")[0] in official or "Annotations" in official


@pytest.mark.parametrize("name", WRITERS)
def test_a_missing_image_is_named(tmp_path, name):
    WRITERS[name](tmp_path / name)
    if name == "okvqa":
        WRITERS["vqav2"](tmp_path / "vqav2")
    task = TASKS[name]
    missing = task.items(local(tmp_path), task.splits[0])[0].images[0]
    missing.unlink()
    with pytest.raises(DataError, match=rf"no file for image \S*{missing.stem}"):
        task.items(local(tmp_path), task.splits[0])


def edit(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("name", "file", "change", "message"),
    [
        (
            "vqav2:val",
            "v2_mscoco_val2014_annotations.json",
            lambda c: c["annotations"][2].update(answers=[]),
            "question 2000 has no",
        ),
        (
            "vqav2:val",
            "v2_mscoco_val2014_annotations.json",
            lambda c: c["annotations"][2].pop("answers"),
            "question 2000 has no",
        ),
        ("vqav2:val", "v2_mscoco_val2014_annotations.json", lambda c: c["annotations"].pop(), "no annotation of question 3001"),
        (
            "vqav2:val",
            "v2_mscoco_val2014_annotations.json",
            lambda c: c["annotations"].append(c["annotations"][0]),
            "row 7 .*question 1000 has a second annotation",
        ),
        (
            "vqav2:val",
            "v2_OpenEnded_mscoco_val2014_questions.json",
            lambda c: c["questions"].append(c["questions"][0] | {"question": "another one?"}),
            "row 7 .*a second entry with the id 1000",
        ),
        (
            "vqav2:val",
            "v2_OpenEnded_mscoco_val2014_questions.json",
            lambda c: c["questions"][1].pop("image_id"),
            "row 2: .*'image_id'",
        ),
        (
            "vqav2:val",
            "v2_OpenEnded_mscoco_val2014_questions.json",
            lambda c: c["questions"].insert(1, 3),
            "row 2 is not in the",
        ),
        ("vqav2:val", "v2_OpenEnded_mscoco_val2014_questions.json", lambda c: c.pop("questions"), "lacks 'questions'"),
        ("vqav2:val", "v2_OpenEnded_mscoco_val2014_questions.json", lambda c: c.update(questions=3), "expected a list"),
        ("textvqa", "TextVQA_0.5.1_val.json", lambda c: c["data"][1].pop("answers"), "row 2 .*question 101 has no answers"),
        ("vizwiz:val", "Annotations/val.json", lambda c: c[1].pop("answers"), "row 2 .*VizWiz_val_00000001.jpg has no answers"),
        (
            "okvqa",
            "mscoco_val2014_annotations.json",
            lambda c: c["annotations"][0].update(answers=[]),
            "question 10 has no answers",
        ),
        ("gqa", "testdev_balanced_questions.json", lambda c: c["2071"].pop("question"), "row 2071: an entry lacks 'question'"),
        ("coco", "dataset_coco.json", lambda c: c["images"][1].pop("sentences"), "row 2: an entry lacks 'sentences'"),
        (
            "nocaps",
            "nocaps_val_4500_captions.json",
            lambda c: c["annotations"][3].pop("caption"),
            "row 4: an entry lacks 'caption'",
        ),
        ("nocaps", "nocaps_val_4500_captions.json", lambda c: c["images"].pop(), "a caption is of image 5, which is not among"),
        ("textcaps", "TextCaps_0.1_val.json", lambda c: c["data"][0].pop("image_id"), "row 1: an entry lacks 'image_id'"),
    ],
)
def test_a_damaged_entry_is_named_with_file_and_row(tmp_path, name, file, change, message):
    base, _, split = name.partition(":")
    for folder in {base, "vqav2"}:
        WRITERS[folder](tmp_path / folder)
    edit(tmp_path / base / file, change)
    with pytest.raises(DataError, match=message) as caught:
        TASKS[base].items(local(tmp_path), split or TASKS[base].splits[0])
    assert str(tmp_path / base / file) in str(caught.value)


@pytest.mark.parametrize(
    "name", ["coco", "nocaps", "textcaps", "vqav2:val", "textvqa", "vizwiz", "okvqa", "gqa", "piqa", "sciq"]
)
def test_a_relative_folder_is_read_and_named(official, monkeypatch, name):
    monkeypatch.chdir(official.parent)
    task, _, split = name.partition(":")
    relative = BenchmarkFolder(Path(official.name), "test")
    assert len(TASKS[task].items(relative, split or TASKS[task].splits[0])) > 1
    assert all(path.is_relative_to(official.name) for path in relative.used)


def test_a_cut_off_download_is_named(tmp_path):
    coco(tmp_path / "coco")
    path = tmp_path / "coco/dataset_coco.json"
    path.write_text(path.read_text()[:-300])
    with pytest.raises(DataError, match=r"dataset_coco\.json is not in the format"):
        TASKS["coco"].items(local(tmp_path), "test")


def test_an_empty_choice_is_refused_wherever_it_comes_from(tmp_path):
    with pytest.raises(ValueError, match="a choice is empty"):
        Item(id="1", choices=("a", " "))
    write(tmp_path / "test/text.jsonl", [{"id": "1", "prompt": "x", "answer": "a", "choices": ["a", ""]}])
    with pytest.raises(DataError, match=r"text\.jsonl, row 1 .*a choice is empty"):
        find_task("text", local(tmp_path)).items(local(tmp_path), "test")


def test_two_files_of_one_name_are_refused_and_a_single_benchmark_can_be_the_folder(tmp_path):
    coco(tmp_path)
    assert len(TASKS["coco"].items(local(tmp_path), "test")) == 2
    write(tmp_path / "copy/dataset_coco.json", {"images": []})
    with pytest.raises(ConfigurationError, match=r"several files dataset_coco\.json: copy/"):
        TASKS["coco"].items(local(tmp_path), "test")


def test_the_folder_of_a_benchmark_may_be_spelled_in_capitals(tmp_path):
    coco(tmp_path / "COCO")
    assert len(TASKS["coco"].items(local(tmp_path), "test")) == 2


def test_an_unknown_split_or_task_names_the_known_ones(tmp_path, folder):
    with pytest.raises(ConfigurationError, match=r"task vqav2: no split 'dev'; known: testdev, test, val, train"):
        TASKS["vqav2"].items(folder, "dev")
    with pytest.raises(ConfigurationError, match=r"'vqa2': neither .*did you mean 'vqav2'"):
        find_task("vqa2", folder)


# -- large files --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("stream")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(content=st.dictionaries(st.text(), VALUES, max_size=5), chunk=st.integers(1, 40), indent=st.none() | st.integers(0, 2))
@example(content={"": 0.5, "b": [1.5, -2e30, 12]}, chunk=1, indent=None)
def test_entries_are_those_of_the_whole_file_wherever_it_is_cut(scratch, content, chunk, indent):
    path = scratch / "x.json"
    path.write_text(json.dumps(content, indent=indent, ensure_ascii=bool(chunk % 2)), encoding="utf-8")
    json_stream.CHUNK, before = chunk, json_stream.CHUNK
    try:
        assert dict(json_stream.entries(path)) == content
        assert json_stream.keys(path) == list(content)
        for key, value in content.items():
            if isinstance(value, list):
                assert [entry for _, entry in json_stream.entries(path, key)] == value
            elif isinstance(value, dict):
                assert dict(json_stream.entries(path, key)) == value
            else:
                with pytest.raises(TypeError, match="expected a list"):
                    list(json_stream.entries(path, key))
    finally:
        json_stream.CHUNK = before


@pytest.mark.parametrize("text", ["", "[", "[1", "[1,]", "[1 2]", '{"a" 1}', '{"a": 1', '{"a": nul}', "[1]]", '["x', "[1] x"])
def test_damaged_json_is_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises((ValueError, TypeError)):
        list(json_stream.entries(tmp_path / "x.json"))


def test_draws_do_not_depend_on_how_the_pool_is_searched():
    """Every demonstration is as likely as if the pool were filtered first."""
    from mm1.evals.demonstrations import DemonstrationPool

    pool = [Item(id=str(n), question=f"q{n}", images=(b"%d" % (n % 7),), answer="a", references=("a",)) for n in range(40)]
    query = Item(id="x", question="q", images=(b"3", b"5"))
    allowed = [item for item in pool if not set(item.images) & set(query.images)]
    drawn = DemonstrationPool("t", pool, same_type=False).draw(query, 8, seed=1)
    assert drawn == tuple(random.Random("1 demonstrations t x ").sample(allowed, 8))
