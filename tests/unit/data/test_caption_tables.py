"""Caption pairs in tables: columns, captions and images as people's tools write them."""

import base64
import csv
import decimal
import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mm1.data.prepare.files.raw import Odd, cleaner
from mm1.data.prepare.files.roles import parse_columns
from mm1.data.prepare.locations.joined import JoinedRoot
from mm1.data.prepare.locations.roots import LocalRoot
from mm1.data.prepare.sources.formats import Options, Reading, discover
from mm1.data.sample import Sample
from mm1.data.tokenizer import SPECIAL_TOKENS
from mm1.errors import ConfigurationError, DataError
from tests.support.mixtures import encoded_image

CLEAN = cleaner(SPECIAL_TOKENS)
RED, BLUE = encoded_image(1, image_format="JPEG"), encoded_image(2, image_format="PNG")
STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def read(folder, **options):
    options = Options(**options)
    root = LocalRoot(folder)
    found = discover("captions", root, options)
    return [item for form, files in found.files.items() for item in Reading("captions", form, root, files, CLEAN, options)]


def short(items):
    return [
        (item.origin, item.images[0], next(item.texts())) if isinstance(item, Sample) else (item.name, item.origin)
        for item in items
    ]


def table(folder, **columns):
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "d.parquet")
    return folder


def rows(folder, *objects, name="d.jsonl"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("".join(json.dumps(each) + "\n" for each in objects))
    return folder


IMAGES = {
    "bytes": [RED, None],
    "large": pa.array([RED, None], pa.large_binary()),
    "dictionary": pa.array([RED, None]).dictionary_encode(),
    "struct": pa.array([{"bytes": RED, "path": "a.jpg"}, None], STRUCT),
    "struct without bytes": pa.array([{"bytes": None, "path": "images/red.jpg"}, {"bytes": None, "path": None}], STRUCT),
    "list of structs": pa.array([[{"bytes": RED, "path": None}], []], pa.list_(STRUCT)),
    "list of numbers": [list(RED), None],
    "path": ["images/red.jpg", ""],
    "path as bytes": [b"images/red.jpg", None],
    "path in images": ["red.jpg", None],
    "path with ./": ["./images/red.jpg", None],
    "path of Windows": ["images\\red.jpg", None],
    "base64": [base64.b64encode(RED).decode(), None],
    "base64 in lines": [base64.encodebytes(RED).decode(), None],
    "base64 without padding": [base64.urlsafe_b64encode(RED).decode().rstrip("="), None],
    "list of numbers in a struct": [{"bytes": list(RED), "path": None}, None],
    "path in a list": [["images/red.jpg"], None],
    "data": ["data:image/jpeg;base64," + base64.b64encode(RED).decode(), None],
}


@pytest.mark.parametrize("kind", IMAGES)
def test_images_are_held_or_named_in_many_ways(tmp_path, kind):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "red.jpg").write_bytes(RED)
    folder = table(tmp_path, image=IMAGES[kind], caption=["a", "b"])
    assert short(read(folder)) == [("d.parquet:1", RED, "a"), ("d.parquet:2", b"", "b")]


def test_several_addresses_of_a_source_keep_their_images_apart(tmp_path):
    for name in "ab":
        table(tmp_path / name, image=["../b/red.jpg", "gone.jpg"], caption=["a", "b"])
    (tmp_path / "b" / "red.jpg").write_bytes(RED)
    root = JoinedRoot({"x": LocalRoot(tmp_path / "a"), "y": LocalRoot(tmp_path / "b")})
    ((form, files),) = discover("captions", root).files.items()
    names = [item.name for item in Reading("captions", form, root, files, CLEAN)]
    assert names == ["image_outside", "image_path_missing"] * 2


def test_paths_may_be_relative_to_the_parent_folder(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "red.jpg").write_bytes(RED)
    table(tmp_path / "data", image=["images/red.jpg"], caption=["a"])
    assert short(read(tmp_path)) == [("data/d.parquet:1", RED, "a")]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (["gone.jpg"], "image_path_missing"),
        (["some words"], "image_path_missing"),
        (pa.array([{"bytes": None, "path": "gone.jpg"}], STRUCT), "image_path_missing"),
        (["../../etc/passwd"], "image_outside"),
        (["/etc/passwd.jpg"], "image_outside"),
        (["https://a.invalid/b.jpg"], "remote_image"),
        ([3], "image_type"),
        ([[[1, 2], [3, 4]]], "image_type"),
        ([{"src": "x"}], "image_type"),
        ([[300] * 20], "image_type"),
        (["data:image/jpeg;base64,*"], "image_not_base64"),
        (["word " * 2000], "image_type"),
        ([[RED, BLUE]], "several_images"),
    ],
)
def test_images_that_cannot_be_found_are_odd_rows(tmp_path, value, name):
    (odd,) = read(table(tmp_path, image=value, caption=["a"]))
    assert (odd.name, odd.origin) == (name, "d.parquet:1")
    assert "image" in odd.detail and len(odd.detail) < 400


def test_the_message_says_that_a_column_holds_paths(tmp_path):
    (odd,) = read(table(tmp_path, image=["gone.jpg"], caption=["a"]))
    assert odd.detail.startswith("'image' holds paths, and 'gone.jpg' is not a file next to d.parquet")


@pytest.mark.parametrize(
    ("value", "captions"),
    [
        ("a", ["a"]),
        (b"a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([b"a"], ["a"]),
        ([], [""]),
        (None, [""]),
        ("", [""]),
        ("\ufeffa", ["a"]),
    ],
)
def test_captions_are_texts_or_lists_of_them(tmp_path, value, captions):
    kind = pa.list_(pa.string()) if value == [] else pa.string() if value is None else None
    samples = read(table(tmp_path, jpg=[RED], caption=pa.array([value], kind)))
    assert [next(sample.texts()) for sample in samples] == captions
    origins = ["d.parquet:1"] if len(captions) == 1 else ["d.parquet:1#1", "d.parquet:1#2"]
    assert [sample.origin for sample in samples] == origins and all(sample.images == [RED] for sample in samples)


@pytest.mark.parametrize(
    ("value", "kind"), [(3, "a number"), (b"\xff", "bytes that are not UTF-8"), ({"en": "a"}, "an object"), ([[1]], "a list")]
)
def test_other_captions_are_odd_rows(tmp_path, value, kind):
    (odd,) = read(table(tmp_path, jpg=[RED], caption=[value]))
    assert odd.name == "caption_not_text" and kind in odd.detail and "'caption'" in odd.detail


def test_metadata_are_plain_json(tmp_path):
    table(
        tmp_path,
        jpg=[RED] * 2,
        caption=["a", "b"],
        url=["https://a/b.jpg", None],
        punsafe=pa.array([decimal.Decimal("0.10"), None]),
        pwatermark=[float("nan"), 0.5],
    )
    first, second = read(tmp_path)
    assert first.meta == {"origin": "d.parquet:1", "addresses": ["https://a/b.jpg"], "punsafe": 0.1}
    assert second.meta == {"origin": "d.parquet:2", "pwatermark": 0.5}


@pytest.mark.parametrize("name", ["caption", "text", "TEXT", "Caption", "alt_text", "description"])
def test_usual_names_of_columns_are_known(tmp_path, name, caplog):
    caplog.set_level("INFO")
    assert [next(sample.texts()) for sample in read(table(tmp_path, image=[RED], **{name: ["a"]}))] == ["a"]
    assert name == "caption" or f"d.parquet: the caption is read from {name!r}" in caplog.text


def test_names_given_by_the_user_win(tmp_path):
    folder = table(tmp_path, image=[RED], picture=[BLUE], caption=["a"], blip=["b"])
    assert short(read(folder, columns={"caption": "blip", "image": "picture"})) == [("d.parquet:1", BLUE, "b")]
    with pytest.raises(
        DataError, match=r"d\.parquet: no column 'x' \(named by columns for caption\); its columns are image, picture"
    ):
        read(folder, columns={"caption": "x"})
    with pytest.raises(DataError, match="table without the column 'x'"):
        read(folder, columns={"image": "x"})
    with pytest.raises(
        DataError, match=r"no column with captions .*its columns are image; name it with columns=\"captions\.caption=NAME\""
    ):
        read(table(tmp_path / "other", image=[RED]))


def test_rows_of_json_and_csv(tmp_path):
    for folder in ("lines", "csv", "tsv", "gz"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "red.jpg").write_bytes(RED)
    rows(
        tmp_path / "lines",
        {"file_name": "red.jpg", "text": "a"},
        {"file_name": "red.jpg", "text": ["b", "c"]},
        {"file_name": None},
        {"text": "d"},
    )
    expected = [("metadata.csv:2", RED, "a, b"), ("metadata.csv:3", RED, "c\nd"), ("columns_differ", "metadata.csv:6")]
    assert short(read(tmp_path / "lines")) == [
        ("d.jsonl:1", RED, "a"),
        ("d.jsonl:2#1", RED, "b"),
        ("d.jsonl:2#2", RED, "c"),
        ("no_caption", "d.jsonl:3"),
        ("d.jsonl:4", b"", "d"),
    ]
    content = '\ufefffile_name,text\nred.jpg,"a, b"\nred.jpg,"c\nd"\n\nred.jpg\n'
    (tmp_path / "csv" / "metadata.csv").write_text(content)
    assert short(read(tmp_path / "csv")) == expected
    with (tmp_path / "tsv" / "a.tsv").open("w") as file:
        csv.writer(file, delimiter="\t").writerows([["caption", "image"], ["a, b", "red.jpg"]])
    assert short(read(tmp_path / "tsv")) == [("a.tsv:2", RED, "a, b")]
    (tmp_path / "gz" / "a.csv").write_bytes(gzip.compress(content.encode()))
    assert [item[0] for item in short(read(tmp_path / "gz"))] == ["a.csv:2", "a.csv:3", "columns_differ"]


def test_odd_lines_of_csv(tmp_path):
    (tmp_path / "a.jpg").write_bytes(RED)
    (tmp_path / "d.csv").write_bytes(b"image,caption\na.jpg," + b"x" * 5000 + b"\na.jpg,caf\xe9\na.jpg,b\n")
    assert short(read(tmp_path, max_row_bytes=4000)) == [
        ("row_too_large", "d.csv:2"),
        ("not_utf8", "d.csv:3"),
        ("d.csv:4", RED, "b"),
    ]


GOOD = [f"a.jpg,caption {number}" for number in range(6)]


@pytest.mark.parametrize(
    ("line", "odd"),
    [
        ('a.jpg,"an open quote', "quote_not_closed"),
        ('"a.jpg,an open quote', "quote_not_closed"),
        ('a.jpg,"closed"",', "quote_not_closed"),
        ('a.jpg,x,"an open quote', "quote_not_closed"),
        ("a.jpg,one,too many", "columns_differ"),
        ('a.jpg,"two\nlines",too many', "columns_differ"),
    ],
)
@pytest.mark.parametrize("place", [0, 3, 6])
def test_an_open_quote_costs_its_row_only(tmp_path, line, odd, place):
    (tmp_path / "a.jpg").write_bytes(RED)
    lines = ["image,caption", *GOOD[:place], line, *GOOD[place:]]
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n")
    items = short(read(tmp_path))
    assert [item for item in items if item[0] == odd] == [(odd, f"d.csv:{place + 2}")]
    assert [item[2] for item in items if item[1] == RED] == [f"caption {number}" for number in range(6)]


@pytest.mark.parametrize("distance", [1, 2, 5])
def test_an_open_quote_is_not_closed_by_that_of_a_later_row(tmp_path, distance):
    (tmp_path / "a.jpg").write_bytes(RED)
    lines = [
        "image,caption,note",
        'a.jpg,"open,n',
        *["a.jpg,good,n"] * (distance - 1),
        'a.jpg,"good, too",n',
        'a.jpg,"good\nlines",n',
    ]
    (tmp_path / "d.csv").write_text("\n".join(lines) + "\n")
    items = short(read(tmp_path))
    assert items[0] == ("quote_not_closed", "d.csv:2")
    assert [item[2] for item in items[1:]] == ["good"] * (distance - 1) + ["good, too", "good\nlines"]


def test_an_open_quote_before_a_large_file_costs_its_row_only(tmp_path):
    (tmp_path / "a.jpg").write_bytes(RED)
    lines = ["image,caption", 'a.jpg,"open', *(f"a.jpg,caption {number}" for number in range(1000))]
    (tmp_path / "d.csv").write_text("\n".join(lines))
    items = short(read(tmp_path, max_row_bytes=4000))
    assert items[0][1] == "d.csv:2"
    assert [item[2] for item in items[1:]] == [f"caption {number}" for number in range(1000)]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("image,caption\na.jpg,b\n".encode("utf-16"), "line 1 is not UTF-8"),
        ("image,caption\na.jpg,b\n".encode("utf-16-le"), "line 1 is not UTF-8"),
        ("image,caption,größe\na.jpg,b,1\n".encode("latin-1"), "line 1 is not UTF-8"),
        (b"image,caption\ra.jpg,b\r", "lines end with CR alone"),
    ],
)
def test_other_encodings_and_line_ends_of_csv_are_named(tmp_path, data, message):
    (tmp_path / "a.jpg").write_bytes(RED)
    (tmp_path / "d.csv").write_bytes(data)
    with pytest.raises(DataError, match=message):
        read(tmp_path)


def test_tables_of_flickr(tmp_path):
    (tmp_path / "1.jpg").write_bytes(RED)
    (tmp_path / "results.csv").write_text("image_name| comment_number| comment\n1.jpg| 0| Two men , outside .\n")
    assert short(read(tmp_path)) == [("results.csv:2", RED, "Two men , outside .")]
    (tmp_path / "results.csv").unlink()
    (tmp_path / "captions.txt").write_text('image,caption\n1.jpg,"A child , in pink ."\n')
    assert short(read(tmp_path)) == [("captions.txt:2", RED, "A child , in pink .")]


def test_names_of_columns_may_have_spaces_and_commas(tmp_path):
    table(tmp_path, **{"my image": [RED], "alt, text = x": ["a"], "caption": ["b"]})
    columns = parse_columns('{"captions.image": "my image", "captions.caption": "alt, text = x"}')
    assert short(read(tmp_path, columns=columns["captions"])) == [("d.parquet:1", RED, "a")]
    assert parse_columns("captions.image=a,captions.caption=b") == {"captions": {"image": "a", "caption": "b"}}
    for text in ('{"captions.image": 1}', '{"captions.image"}', '{"image": "a"}', '{"text.text": "a", "text.text": "b"}'):
        with pytest.raises(ConfigurationError, match="columns"):
            parse_columns(text)
    with pytest.raises(ConfigurationError, match="with spaces or commas are given as JSON"):
        parse_columns("captions.caption=alt text")


# -- addresses --------------------------------------------------------------------------------------------------------------


class Fetch:
    def __init__(self):
        self.batches = []

    def __call__(self, address):
        return b"" if "gone" in address else address.encode()

    def fetch_many(self, addresses):
        self.batches.append(len(addresses))
        return {address: self(address) for address in addresses}


def test_tables_of_addresses_are_fetched_in_batches(tmp_path):
    addresses = [f"https://a.invalid/{number}.jpg" for number in range(100)]
    folder = table(tmp_path, url=[*addresses, "https://a.invalid/gone", None], caption=["a"] * 102)
    fetch = Fetch()
    samples = read(folder, fetch=fetch)
    assert [sample.images[0].decode() for sample in samples] == [*addresses, "", ""]
    assert fetch.batches == [32, 32, 32, 5]
    assert samples[0].meta["addresses"] == [addresses[0]]
    assert [sample.images[0] for sample in read(folder, fetch=lambda address: b"x")] == [b"x"] * 101 + [b""]
    with pytest.raises(DataError, match="download them with img2dataset or remote=fetch"):
        read(folder)


def test_addresses_among_other_images_are_fetched(tmp_path):
    (tmp_path / "red.jpg").write_bytes(RED)
    rows(tmp_path, *({"image": name, "caption": "a"} for name in ("red.jpg", "https://a.invalid/1", "https://a.invalid/gone")))
    fetch = Fetch()
    assert [sample.images[0] for sample in read(tmp_path, fetch=fetch)] == [RED, b"https://a.invalid/1", b""]
    assert fetch.batches == [2]
    assert [item.name for item in read(tmp_path)[1:]] == ["remote_image"] * 2


def test_addresses_next_to_images_are_metadata(tmp_path):
    table(tmp_path, url=["https://a.invalid/0.jpg"], caption=["a"])
    (tmp_path / "0.jpg").write_bytes(RED)
    (tmp_path / "0.txt").write_text("a")
    assert short(read(tmp_path, fetch=Fetch())) == [("0.jpg:1", RED, "a")]


# -- peers ------------------------------------------------------------------------------------------------------------------


def test_img2datasets_parquet(tmp_path):
    columns = {"key": ["0", "1"], "caption": ["a red <image> one", "gone"], "url": ["https://a/0", None], "jpg": [RED, None]}
    first, second = read(table(tmp_path, status=["success", "failed_to_download"], width=[16, None], **columns))
    assert next(first.texts()) == "a red  one" and first.images == [RED] and first.meta["addresses"] == ["https://a/0"]
    assert second.images == [b""]


def write_save_to_disk(folder, columns):
    """The files of ``Dataset.save_to_disk``: Arrow streams, and JSON about them."""
    data = pa.table(columns)
    (folder / "train").mkdir(parents=True)
    with pa.ipc.new_stream(folder / "train" / "data-00000-of-00001.arrow", data.schema) as writer:
        writer.write_table(data, max_chunksize=2)
    (folder / "train" / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "train" / "dataset_info.json").write_text(json.dumps({"features": {}}, indent=2))
    (folder / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pa.ipc.new_stream(folder / "train" / "cache-1a2b.arrow", data.schema) as writer:
        writer.write_table(data)


def test_what_hugging_face_datasets_saves_to_disk(tmp_path):
    write_save_to_disk(tmp_path, {"image": pa.array([{"bytes": RED, "path": None}] * 5, STRUCT), "text": list("abcde")})
    assert short(read(tmp_path)) == [(f"train/data-00000-of-00001.arrow:{n}", RED, text) for n, text in enumerate("abcde", 1)]
    found = discover("captions", LocalRoot(tmp_path))
    assert {each.name.rpartition("/")[2]: each.reason for each in found.left_out} == {
        "state.json": "JSON metadata",
        "dataset_info.json": "JSON metadata",
        "dataset_dict.json": "JSON metadata",
        "cache-1a2b.arrow": "cache of Hugging Face datasets",
    }


def test_rows_are_samples_or_odd(tmp_path):
    items = read(table(tmp_path, jpg=[RED, b"x", None], caption=["a", None, "c"]))
    assert len(items) == 3 and not any(isinstance(item, Odd) for item in items)
