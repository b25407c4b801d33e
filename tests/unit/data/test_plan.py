"""The plan of an ingest: every file is read or named, and parts do not depend on the machine."""

import bz2
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mm1.data.prepare.files.kinds import look
from mm1.data.prepare.locations.roots import LocalRoot
from mm1.data.prepare.plan import MAX_BATCHES, MAX_GROUPS, plan_batches, plan_source
from mm1.data.prepare.sources.formats import DEFAULTS, SUMMARY, Reading, discover
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import PlannedSource, RawFile, RawPart
from tests.support.mixtures import encoded_image
from tests.support.raw_files import conversation, pairs, write_img2dataset, write_llava, write_obelics, write_text


def plan(source, folder, part_bytes=1 << 30):
    return plan_source(source, LocalRoot(folder), DEFAULTS, part_bytes)


def test_formats_may_be_mixed_and_the_rest_is_named(tmp_path):
    write_text(tmp_path / "a.jsonl", ["one"])
    write_text(tmp_path / "b.parquet", ["two"])
    (tmp_path / "notes.md").write_text("# about these data")
    (tmp_path / "empty.jsonl").write_bytes(b"")
    planned, parts = plan("text", tmp_path)
    assert [(part.format, [file.name for file in part.files]) for part in parts] == [
        ("jsonl", ["a.jsonl"]),
        ("parquet", ["b.parquet"]),
    ]
    assert (planned.num_files, planned.left_out) == (2, {"empty file": 1, "unknown format": 1})
    assert planned.examples == {"empty file": ("empty.jsonl",), "unknown format": ("notes.md",)}


def test_everything_that_is_there_is_read_or_left_out(tmp_path):
    write_img2dataset(tmp_path / "00000.tar", pairs(2))
    pq.write_table(pa.table({"url": ["u"], "caption": ["c"]}), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{\n "count": 2\n}')
    (tmp_path / "loose.png").write_bytes(encoded_image(0))
    for name, data in (("pair.JPG", encoded_image(1)), ("pair.txt", b"a pair"), ("README.txt", b"read me")):
        (tmp_path / name).write_bytes(data)
    found = discover("captions", LocalRoot(tmp_path))
    assert {form: [file.name for file in files] for form, files in found.files.items()} == {
        "img2dataset": ["00000.tar"],
        "img2dataset-files": ["pair.JPG"],
    }
    reasons = {each.name: each.reason for each in found.left_out}
    assert set(reasons) == {"00000.parquet", "00000_stats.json", "loose.png", "README.txt"}
    assert reasons["00000.parquet"] == "metadata of a tar"


def test_nothing_to_read_says_why(tmp_path):
    with pytest.raises(DataError, match="the folder is empty"):
        discover("text", LocalRoot(tmp_path))
    (tmp_path / "a.docx").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(DataError, match=r"no file can be read as text: zip file, .* \(for example a\.docx\)"):
        discover("text", LocalRoot(tmp_path))
    with pytest.raises(ConfigurationError):
        discover("text", LocalRoot(tmp_path / "a.docx"))


@pytest.mark.parametrize(
    ("name", "content", "kind", "fields"),
    [
        ("a", b'{"text": "x"}\n', "json-lines", ("text",)),
        ("a.json", b'\xef\xbb\xbf[{"id": 1}]', "json-list", ("id",)),
        ("a.json", b'{\n "count": 2\n}', "json", ("count",)),
        ("a.json", b'{"a": 1}\n{"a": 2}\n', "json-lines", ("a",)),
        ("a.jsonl", b'{"text": "' + b"x" * 100_000 + b'"}\n', "json-lines", ()),
        ("a.csv", b"file_name,text\n1.jpg,one\n", "csv", ("file_name", "text")),
        ("a.tar", bytes(10_240), "tar", ()),
        ("a.jsonl", b"", "empty", ()),
        ("a.jpg", b"anything", "image", ()),
        ("a.bin", b"\x00\x01\x02", "unknown", ()),
        # the first line is odd
        ("a.jsonl", b'null\n{"text": "x"}\n{"text": "y"}\n', "json-lines", ("text",)),
        ("a.jsonl", b'# made by hand\n{"text": "x"}\n', "json-lines", ("text",)),
        ("a.jsonl", b"null\n" * 200 + b'{"text": "x"}\n', "json-lines", ("text",)),
        ("part-00000", b'rest of a row"}\n{"text": "x"}\n{"id": 1}\n', "json-lines", ("text", "id")),
        ("a.json.bz2", bz2.compress(b'\xef\xbb\xbffalse\r\n{"text": "x"}\r\n'), "json-lines", ("text",)),
        ("a.md", b'Write it so:\n\n```\n{"text": "x"}\n```\n', "unknown", ()),
        # brackets that are no JSON
        ("README.md", b"[![Build](https://a.invalid/b.svg)](https://a.invalid)\n# Title\n", "unknown", ()),
        ("a.log", b"[INFO] started\n" * 9_000, "unknown", ()),
        ("setup.cfg", b"[metadata]\nname = x\n", "unknown", ()),
        ("a.html", b"{% if x %}\n{{ y }}\n", "unknown", ()),
        ("notes", b"[[wiki]] link\n", "unknown", ()),
        ("a.data", b' [\n {"text": "x"}]', "json-list", ("text",)),
        # tables of text
        ("a.csv", b"file_name;text, long;id\n1.jpg;one;1\n", "csv", ("file_name", "text, long", "id")),
        ("a.csv", b'"a, b",c\n1,2\n', "csv", ("a, b", "c")),
        ("a.csv.gz", gzip.compress(b"image|text\n1.jpg|one\n", mtime=0), "csv", ("image", "text")),
        ("captions.txt", b"image,caption\n1.jpg,one\n", "csv", ("image", "caption")),
        ("a.txt", b'{"text": "x"}\n', "json-lines", ("text",)),
        ("a.txt", b"an image, with a caption\n", "caption", ()),
        ("a.txt", b"[a picture] of a house\n", "caption", ()),
    ],
)
def test_a_file_is_what_it_holds(tmp_path, name, content, kind, fields):
    (tmp_path / name).write_bytes(content)
    seen = look(LocalRoot(tmp_path), RawFile(name=name, num_bytes=len(content), version=""))
    assert (seen.kind, seen.fields) == (kind, fields)


@pytest.mark.parametrize("columns", [3, 3000])
def test_the_columns_of_a_parquet_file_are_read_from_its_footer(tmp_path, columns):
    names = [f"column_{number}" for number in range(columns)]
    pq.write_table(pa.table({name: ["x" * 50] for name in names}), tmp_path / "a.parquet")
    (file,) = LocalRoot(tmp_path).list()
    assert look(LocalRoot(tmp_path), file).fields == tuple(names)


def test_summaries_of_parquet_files_are_no_data(tmp_path):
    table = pa.table({"text": ["a", "b"]})
    for number in range(2):
        (tmp_path / f"part={number}").mkdir()
        footers: list = []
        pq.write_table(table, tmp_path / f"part={number}" / "a.parquet", metadata_collector=footers)
        footers[0].set_file_path("a.parquet")
        pq.write_metadata(table.schema, tmp_path / f"part={number}" / "_metadata", footers)
    pq.write_metadata(table.schema, tmp_path / "_common_metadata")
    found = discover("text", LocalRoot(tmp_path))
    assert [file.name for file in found.files["parquet"]] == ["part=0/a.parquet", "part=1/a.parquet"]
    assert {(entry.name, entry.reason) for entry in found.left_out} == {
        (name, SUMMARY) for name in ("_common_metadata", "part=0/_metadata", "part=1/_metadata")
    }


@pytest.mark.parametrize("source", ["captions", "text", "interleaved", "instructions"])
def test_a_truncated_table_is_no_metadata(tmp_path, source):
    pq.write_table(pa.table({"image": [b"x" * 1000], "caption": ["a"]}), tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    (tmp_path / "a.parquet").write_bytes(data[:-100])
    root = LocalRoot(tmp_path)
    ((form, files),) = discover(source, root).files.items()
    with pytest.raises(DataError, match=r"a\.parquet: damaged"):
        list(Reading(source, form, root, files, str))


def test_small_files_share_a_part_and_keep_their_order(tmp_path):
    for number in range(10):
        write_text(tmp_path / f"{number}.jsonl", ["x" * 100])
    size = (tmp_path / "0.jsonl").stat().st_size
    _, parts = plan("text", tmp_path, part_bytes=4 * size)
    assert [len(part.files) for part in parts] == [4, 4, 2]
    assert [file.name for part in parts for file in part.files] == [f"{number}.jsonl" for number in range(10)]
    assert [part.number for part in parts] == [0, 1, 2]
    assert parts[0].label == "0.jsonl to 3.jsonl"


def test_folders_are_groups_and_share_no_part(tmp_path):
    for group in ("cc12m", "laion"):
        for number in range(2):
            write_img2dataset(tmp_path / group / f"{number}.tar", pairs(1))
    write_img2dataset(tmp_path / "0.tar", pairs(1))
    _, parts = plan("captions", tmp_path)
    assert [(part.group, len(part.files)) for part in parts] == [("", 1), ("cc12m", 2), ("laion", 2)]


def test_many_folders_are_no_groups(tmp_path):
    for number in range(MAX_GROUPS + 1):
        write_text(tmp_path / f"{number:05d}" / "a.jsonl", ["x"])
    _, parts = plan("text", tmp_path)
    assert {part.group for part in parts} == {""} and len(parts) == 1


@pytest.mark.parametrize("num_parts", [1, 7, MAX_BATCHES, 20_000])
def test_batches_hold_every_part_once_and_their_list_stays_short(num_parts):
    file = RawFile(name="a", num_bytes=1, version="")
    parts = [RawPart(source="text", number=number, format="jsonl", files=(file,)) for number in range(num_parts)]
    made = plan_batches({"text": PlannedSource(num_files=1, num_bytes=1)}, parts)
    batches = [made.batch(number) for number in range(made.num_batches)]
    assert sorted(part.number for batch in batches for part in batch) == list(range(num_parts))
    address = f"s3://{'a' * 200}/manifests/{'0' * 64}.json"
    assert len(json.dumps([address] * made.num_batches)) < 100_000


def test_conversations_and_pages_are_recognised_by_their_fields(tmp_path):
    write_llava(tmp_path / "chat" / "a.json", [conversation("what", "that")])
    (tmp_path / "chat" / "dataset_info.json").write_text('{\n "splits": {}\n}')
    found = discover("instructions", LocalRoot(tmp_path / "chat"))
    assert [file.name for file in found.files["llava"]] == ["a.json"]
    assert [each.name for each in found.left_out] == ["dataset_info.json"]
    write_obelics(tmp_path / "pages" / "a.parquet", [["t", encoded_image(0)]])
    assert list(discover("interleaved", LocalRoot(tmp_path / "pages")).files) == ["obelics"]


def test_numbered_folders_are_no_groups(tmp_path):
    for folder in ("00000", "00001", "sbu"):
        write_text(tmp_path / folder / "a.jsonl", ["x"])
    _, parts = plan("text", tmp_path)
    assert [(part.group, len(part.files)) for part in parts] == [("", 2), ("sbu", 1)]


@pytest.mark.parametrize(
    "content",
    [
        b"[![Build](badge.svg)](https://a.invalid)\n\n# About these data\n",
        b"[Icon Theme]\nName=x\n",
        b"[1] A. Author, A title, 2020\n[2] Another one\n",
        b"[tool.black]\nline-length = 128\n",
        b"\x5b\x7a\x01\x00\xaf\x79\x01\x00\x02\x00\x02\x00" + bytes(500),
        b"{\\rtf1\\ansi text}",
        b"{{ template }} of a page",
    ],
    ids=["markdown", "ini", "references", "toml", "font", "rtf", "template"],
)
@pytest.mark.parametrize("source", ["text", "instructions", "interleaved", "captions"])
def test_files_that_only_begin_like_json_are_left_out(tmp_path, source, content):
    write_text(tmp_path / "good.jsonl", ["one"])
    (tmp_path / "README.md").write_bytes(content)
    if source != "text":
        (file,) = [file for file in LocalRoot(tmp_path).list() if file.name == "README.md"]
        assert look(LocalRoot(tmp_path), file).kind == "unknown"
        return
    found = discover(source, LocalRoot(tmp_path))
    assert [file.name for file in found.files["jsonl"]] == ["good.jsonl"]
    assert [(each.name, each.reason) for each in found.left_out] == [("README.md", "unknown format")]


def test_json_needs_no_ending_and_json_endings_no_whole_first_row(tmp_path):
    (tmp_path / "rows").write_bytes(b'\n [ {"text": "a"},\n {"text": "b"} ]')
    (tmp_path / "odd.jsonl").write_bytes(b'{bad\n{"text": "a"}\n')
    (tmp_path / "empty.json").write_bytes(b"[]")
    kinds = {file.name: look(LocalRoot(tmp_path), file).kind for file in LocalRoot(tmp_path).list()}
    assert kinds == {"rows": "json-list", "odd.jsonl": "json-lines", "empty.json": "json-list"}


def test_captions_next_to_images_are_counted_as_files_and_tables_next_to_tars_as_theirs(tmp_path):
    for number in range(3):
        (tmp_path / f"{number}.jpg").write_bytes(encoded_image(number, 16, "JPEG"))
        (tmp_path / f"{number}.txt").write_text("a caption")
        (tmp_path / f"{number}.json").write_text("{}")
    (tmp_path / "alone.txt").write_text("no image")
    write_img2dataset(tmp_path / "00000.tar", pairs(2))
    pq.write_table(pa.table({"url": ["u"], "caption": ["c"]}), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text('{"count": 2}')
    planned, _ = plan("captions", tmp_path)
    assert planned.num_files == 10
    assert planned.left_out == {"metadata of a tar": 2, "text without an image of its name": 1}
    assert planned.num_files + sum(planned.left_out.values()) == len(list(tmp_path.iterdir()))


def test_what_is_left_out_is_listed_in_the_order_of_the_files(tmp_path):
    for number in range(2):
        write_img2dataset(tmp_path / f"{number:05d}.tar", pairs(1))
        pq.write_table(pa.table({"url": ["u"], "caption": ["c"]}), tmp_path / f"{number:05d}.parquet")
        (tmp_path / f"{number:05d}_stats.json").write_text('{\n "count": 1\n}')
    left_out = discover("captions", LocalRoot(tmp_path)).left_out
    assert [each.name for each in left_out] == ["00000.parquet", "00000_stats.json", "00001.parquet", "00001_stats.json"]
    assert {each.reason for each in left_out} == {"metadata of a tar"}
