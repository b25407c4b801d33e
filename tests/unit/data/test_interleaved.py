"""Interleaved documents (OBELICS, MMC4) and text: what is read, what is left out, what is odd."""

import base64
import gzip
import json
import zipfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm1.data.prepare.files.raw import Odd, cleaner
from mm1.data.prepare.locations.roots import LeftOut, LocalRoot
from mm1.data.prepare.sources.formats import Options, Reading, discover
from mm1.data.sample import ImagePart, Sample
from mm1.data.tokenizer import SPECIAL_TOKENS
from mm1.errors import DataError
from tests.support.mixtures import encoded_image

CLEAN = cleaner(SPECIAL_TOKENS)
RED, BLUE = encoded_image(1, image_format="JPEG"), encoded_image(2, image_format="JPEG")


def items(source, folder, **options):
    root = LocalRoot(folder)
    found = discover(source, root, Options(**options))
    return [
        item for form, files in found.files.items() for item in Reading(source, form, root, files, CLEAN, Options(**options))
    ]


def short(item):
    """A sample as texts and images, an odd row as its name, what is left out as its reason."""
    if isinstance(item, Odd | LeftOut):
        return item.name if isinstance(item, Odd) else f"left out: {item.reason}"
    json.loads(item.to_json())
    assert len(item.meta.get("addresses", item.images)) == len(item.images)
    names = {RED: "red", BLUE: "blue", b"": "missing"}
    return [f"<{names[item.images[part.image]]}>" if isinstance(part, ImagePart) else part.text for part in item.parts]


def write_rows(folder, rows, form):
    folder.mkdir(parents=True, exist_ok=True)
    if form == "jsonl":
        (folder / "d.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        return
    table = pa.Table.from_pylist(rows)
    if form == "parquet":
        pq.write_table(table, folder / "d.parquet")
        return
    with pa.OSFile(str(folder / "d.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


# -- OBELICS ------------------------------------------------------------------------------------------------------------

PAGES = [
    ({"images": [None, "u", None], "texts": ["a", None, "b"], "image_bytes": [None, RED, None]}, ["a", "<red>", "b"]),
    ({"images": ["u", ""], "texts": ["", "b"], "image_bytes": [RED, b""]}, ["<red>", "b"]),
    ({"images": [None, None, "u"], "texts": [None, "b", None], "image_bytes": [None, None, BLUE]}, ["b", "<blue>"]),
    ({"images": [None, "u"], "texts": ["b", None], "image_bytes": [None, None]}, ["b", "<missing>"]),
    ({"images": ["https://a.invalid/1.jpg", None], "texts": [None, "b"], "image_bytes": None}, ["<missing>", "b"]),
    ({"images": ["red.jpg", None], "texts": [None, "b"], "image_bytes": None}, ["<red>", "b"]),
    ({"images": None, "texts": ["a", "b"], "image_bytes": None}, ["a", "b"]),
    ({"images": ["u"], "texts": ["b"], "image_bytes": [RED]}, "image_and_text"),
    ({"images": ["u", None], "texts": ["b"], "image_bytes": [RED]}, "lengths_differ"),
    ({"images": ["u"], "texts": [None], "image_bytes": [RED, RED]}, "lengths_differ"),
    ({"images": None, "texts": None, "image_bytes": [RED]}, "no_list"),
]


def test_pages_of_obelics(tmp_path):
    write_rows(tmp_path, [page for page, _ in PAGES], "parquet")
    (tmp_path / "red.jpg").write_bytes(RED)
    read = items("interleaved", tmp_path)
    assert [short(item) for item in read] == [expected for _, expected in PAGES]
    assert read[0].origin == "d.parquet:1" and read[0].meta["addresses"] == ["u"]
    assert [item.origin for item in read[-2:]] == ["d.parquet:10", "d.parquet:11"]


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize(
    "image",
    [
        {"bytes": RED, "path": None},
        {"bytes": None, "path": "red.jpg"},
        RED,
        "red.jpg",
        b"red.jpg",
        {"bytes": RED, "path": "x.jpg"},
    ],
)
def test_images_of_pages_in_all_forms(tmp_path, form, image):
    write_rows(tmp_path, [{"images": [image, None], "texts": [None, "b"]}] * 3, form)
    (tmp_path / "red.jpg").write_bytes(RED)
    assert [short(item) for item in items("interleaved", tmp_path)] == [["<red>", "b"]] * 3


def test_pages_in_json_and_columns_named_by_the_user(tmp_path):
    image = base64.b64encode(RED).decode()
    write_rows(tmp_path, [{"pictures": [None, image], "words": ["a", None]}, {"pictures": 7, "words": None}], "jsonl")
    columns = {"images": "pictures", "texts": "words"}
    assert [short(item) for item in items("interleaved", tmp_path, columns=columns)] == [["a", "<red>"], "no_list"]
    with pytest.raises(DataError, match=r"no field images or image among pictures, words"):
        items("interleaved", tmp_path)


def test_remote_images_are_refused_with_the_remedy_or_fetched(tmp_path):
    write_rows(tmp_path, [{"images": ["https://a.invalid/1.jpg", None], "texts": [None, "b"]}], "parquet")
    (odd,) = items("interleaved", tmp_path)
    assert odd.name == "remote_image" and "remote=fetch" in odd.detail
    assert [short(item) for item in items("interleaved", tmp_path, fetch=lambda address: RED)] == [["<red>", "b"]]


@pytest.mark.parametrize("address", ["file:///etc/passwd", "s3://bucket/1.jpg", "ftp://a.invalid/1.jpg"])
def test_only_http_addresses_are_offered_to_be_fetched(tmp_path, address):
    write_rows(tmp_path, [{"images": [address, None], "texts": [None, "b"]}], "parquet")
    for fetch in (None, lambda address: RED):
        (odd,) = items("interleaved", tmp_path, fetch=fetch)
        assert odd.name == "remote_image" and "remote=fetch" not in odd.detail and "next to this file" in odd.detail


# -- MMC4 ---------------------------------------------------------------------------------------------------------------

ENCODED = base64.b64encode(RED).decode()


def mmc4(*infos, texts=("One.", "Two.")):
    return {"text_list": list(texts), "image_info": list(infos), "similarity_matrix": [[0.1]]}


def info(**fields):
    return {
        "image_name": "x.jpg",
        "raw_url": "https://a.invalid/x.jpg",
        "matched_text_index": 1,
        "image_base64": ENCODED,
    } | fields


NO_SENTENCE, NOT_BASE64 = "left out: image without a matching sentence", "left out: image that is not base64"
DOCUMENTS = [
    (mmc4(info()), [["One.", "<red>", "Two."]]),
    (mmc4(info(matched_text_index=0), info()), [["<red>", "One.", "<red>", "Two."]]),
    (mmc4(info(matched_text_index=1.0)), [["One.", "<red>", "Two."]]),
    (mmc4(info(matched_text_index=2), info()), [["One.", "<red>", "Two."], NO_SENTENCE]),
    (mmc4(info(matched_text_index=-1)), [["One. Two."], NO_SENTENCE]),
    (mmc4(info(matched_text_index=None)), [["One. Two."], NO_SENTENCE]),
    (mmc4(info(matched_text_index=True)), [["One. Two."], NO_SENTENCE]),
    (mmc4(info(matched_text_index="1")), [["One. Two."], NO_SENTENCE]),
    (mmc4({}, 7, None), [["One. Two."], NO_SENTENCE, NO_SENTENCE, NO_SENTENCE]),
    (mmc4(info(image_base64="*")), [["One. Two."], NOT_BASE64]),
    (mmc4(info(image_base64=base64.encodebytes(RED).decode())), [["One.", "<red>", "Two."]]),
    (mmc4(info(image_base64=base64.urlsafe_b64encode(RED).decode().rstrip("="))), [["One.", "<red>", "Two."]]),
    (mmc4(info(image_base64="data:image/jpeg;base64," + ENCODED)), [["One.", "<red>", "Two."]]),
    (mmc4(info(image_base64=None, image_name="blue.jpg")), [["One.", "<blue>", "Two."]]),
    (mmc4(info(image_base64=None, image_name="a/b.jpg", raw_url=None)), [["One.", "<missing>", "Two."]]),
    (mmc4(info(image_base64=None, matched_text_index=0), info()), [["<missing>", "One.", "<red>", "Two."]]),
    (mmc4(info(image_base64=None)), ["remote_image"]),
    (mmc4(info(image_base64=None, image_name="../../x.jpg")), ["image_outside"]),
    (mmc4(), [["One. Two."]]),
    (mmc4(texts=["One.", None]), ["no_sentences"]),
    (mmc4(texts=[7]), ["no_sentences"]),
    ({"text_list": "One."}, ["no_sentences"]),
    ({"text_list": ["One."], "image_info": {}}, ["no_image_list"]),
]


@pytest.mark.parametrize("number", range(len(DOCUMENTS)))
def test_documents_of_mmc4(tmp_path, number):
    row, expected = DOCUMENTS[number]
    write_rows(tmp_path, [mmc4(), row], "jsonl")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "blue.jpg").write_bytes(BLUE)
    read = items("interleaved", tmp_path)
    assert [short(item) for item in read] == [["One. Two."], *expected]
    assert all((item.name if isinstance(item, LeftOut) else item.origin) == "d.jsonl:2" for item in read[1:])


def test_a_zip_archive_of_mmc4(tmp_path):
    with zipfile.ZipFile(tmp_path / "docs_shard_0_v2.jsonl.zip", "w") as archive:
        archive.writestr("docs_shard_0_v2.jsonl", json.dumps(mmc4(info())) + "\n\n7")
        archive.writestr("LICENSE", "x")
    left_out, sample, odd = items("interleaved", tmp_path)
    assert left_out == LeftOut("docs_shard_0_v2.jsonl.zip:LICENSE", 1, "not a JSON file")
    assert short(sample) == ["One.", "<red>", "Two."] and (odd.name, odd.origin) == (
        "not_an_object",
        "docs_shard_0_v2.jsonl.zip:3",
    )


def test_a_zip_archive_without_json_next_to_documents_is_left_out(tmp_path):
    write_rows(tmp_path, [mmc4(info())], "jsonl")
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.mkdir("a")
        archive.writestr("a/0.jpg", RED)
    found = discover("interleaved", LocalRoot(tmp_path))
    assert list(found.files) == ["mmc4"] and [each.name for each in found.left_out] == ["images.zip"]
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.mkdir("a")
        archive.writestr("a/README", "x")
        archive.writestr("a/0.jsonl", '{"text": "a"}')
    (tmp_path / "d.jsonl").unlink()
    left_out, sample = items("text", tmp_path)
    assert left_out.name == "texts.zip:a/README" and short(sample) == ["a"] and sample.origin == "texts.zip:1"


# -- text ---------------------------------------------------------------------------------------------------------------

TEXTS = [
    ({"text": "a"}, ["a"]),
    ({"text": "a <ima<image>ge> \ud83d\0 \ufeff"}, ["a  � \ufeff"]),
    ({"text": ""}, []),
    ({"text": None}, "no_text"),
    ({"text": 7}, "no_text"),
    ({"text": ["a"]}, "no_text"),
    ({"text": {"a": "b"}}, "no_text"),
    ({"id": 1}, "no_text"),
    ({"id": 1, "content": "a"}, ["a"]),
    ({"TEXT": "a"}, ["a"]),
    ({"text": "a", "content": "b"}, ["a"]),
]


@pytest.mark.parametrize("name", ["d.jsonl", "d.json", "c4.json.gz"])
def test_texts(tmp_path, name):
    lines = "".join(json.dumps(row) + "\n" for row, _ in TEXTS)
    rows = json.dumps([row for row, _ in TEXTS], indent=1) if name == "d.json" else lines
    (tmp_path / name).write_bytes(gzip.compress(rows.encode()) if name.endswith("gz") else rows.encode())
    read = items("text", tmp_path)
    assert [short(item) for item in read] == [expected or [""] for _, expected in TEXTS]
    assert [item.origin for item in read] == [f"{name}:{number}" for number in range(1, len(TEXTS) + 1)]
    assert not any("a <ima" in item.detail for item in read if isinstance(item, Odd))


def test_the_column_of_texts_is_chosen_and_the_choice_is_logged_once(tmp_path, caplog):
    caplog.set_level("INFO")
    table = pa.table({"id": [1, 2, 3], "content": [b"a", b"\xff", None], "summary": ["x", "y", "z"]})
    pq.write_table(table, tmp_path / "d.parquet")
    assert [short(item) for item in items("text", tmp_path)] == [["a"], "no_text", "no_text"]
    assert caplog.text.count("is read from 'content'; choose another one with columns=text.text=NAME") == 1
    assert [short(item) for item in items("text", tmp_path, columns={"text": "summary"})] == [["x"], ["y"], ["z"]]
    with pytest.raises(DataError, match=r"no field body among id, content, summary"):
        items("text", tmp_path, columns={"text": "body"})


def test_other_files_next_to_texts_are_left_out_with_the_reason(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n' + '{"text": "a"}\n' * 3)
    (tmp_path / "b.jsonl").write_text('{"id": 1, "title": "' + "x" * 70_000 + '"}\n{"text": "a"}\n')
    (tmp_path / "dataset_info.json").write_text('{"splits": 1}')
    (tmp_path / "state.json").write_text('{\n "a": 1\n}')
    (tmp_path / "list.json").write_text('[{"a": 1}, {"b": 2}]')
    found = discover("text", LocalRoot(tmp_path))
    assert [file.name for file in found.files["jsonl"]] == ["a.jsonl", "b.jsonl"]
    assert {each.name: each.reason for each in found.left_out} == {
        "dataset_info.json": "JSON metadata",
        "state.json": "JSON metadata",
        "list.json": "no field text or content among a, b",
    }


# -- anything -----------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["red.jpg", ENCODED, "https://a.invalid"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["bytes", "path", "x"]), inner, max_size=2),
    max_leaves=6,
)
INFO = st.fixed_dictionaries({}, optional=dict.fromkeys(("image_name", "raw_url", "matched_text_index", "image_base64"), JSON))
VALUES = JSON | st.lists(JSON | INFO, max_size=3) | st.lists(st.text(), min_size=2, max_size=2)
FORMS = [
    ("interleaved", mmc4(info()), ("text_list", "image_info")),
    ("interleaved", PAGES[6][0], ("images", "texts", "image_bytes")),
    ("text", {"text": "a"}, ("text", "content")),
]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(FORMS), st.data())
def test_any_json_in_any_field_gives_a_sample_or_an_odd_row(tmp_path, form, data):
    source, good, fields = form
    row = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(fields, VALUES)))
    write_rows(tmp_path, [good, good | row], "jsonl")
    (tmp_path / "red.jpg").write_bytes(RED)
    first, second, *others = items(source, tmp_path)
    assert isinstance(first, Sample) and isinstance(second, Sample | Odd) and all(isinstance(item, LeftOut) for item in others)
    if isinstance(second, Sample):
        second.to_json()
        assert [part.image for part in second.parts if isinstance(part, ImagePart)] == list(range(len(second.images)))
