"""Rows of JSON files: lines or lists, compressed, ranges, odd rows, damage."""

import base64
import bz2
import gzip
import io
import json
import lzma
import random
import re
import subprocess
import sys
import zipfile

import pytest
import zstandard
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mm1.data.prepare.files import jsonl
from mm1.data.prepare.files.json_list import ListSplitter
from mm1.data.prepare.files.kinds import look
from mm1.data.prepare.files.raw import OddRow, RawInput
from mm1.data.prepare.locations.roots import LocalRoot
from mm1.data.prepare.sources.formats import discover
from mm1.errors import DataError

ROWS = [{"id": number, "text": f'row {number} – “é” \u2028 \\ " [{{,'} for number in range(7)]
LINES = "".join(json.dumps(row, ensure_ascii=number % 2 == 0) + "\n" for number, row in enumerate(ROWS)).encode()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def files_of(path, target_bytes=None, split=jsonl.split, **options):
    root = LocalRoot(path)
    files = root.list() if target_bytes is None else split(root, root.list()[0], target_bytes)
    return [RawInput("text", root, file, **options) for file in files]


def rows_of(path, target_bytes=None, **options):
    """All rows; odd ones as their name."""
    rows = [item for file in files_of(path, target_bytes, **options) for item in jsonl.json_rows(file)]
    return [(number, row.name if isinstance(row, OddRow) else row) for number, row in rows]


def write(folder, data, name="d.jsonl"):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return folder / name


def split_into(elements, size, max_bytes=1 << 20):
    stream = io.BytesIO(elements)
    splitter = ListSplitter(jsonl.parse_row, max_bytes)
    rows = list(splitter.rows(iter(lambda: stream.read(size), b"")))
    return [row.name if isinstance(row, OddRow) else row for row in rows], splitter.is_unfinished


NUMBERED = [*enumerate(ROWS, start=1)]


@pytest.mark.parametrize("name", ["d.json", "d.JSONL", "d.ndjson", "d.json.gz", "d"])
@pytest.mark.parametrize("wrap", [bytes, gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_lines_and_lists_are_told_apart_by_content_whatever_the_name(tmp_path, name, wrap):
    assert rows_of(write(tmp_path, wrap(LINES), name)) == NUMBERED
    for indent in (None, 2):
        assert rows_of(write(tmp_path, wrap(json.dumps(ROWS, indent=indent).encode()), name)) == NUMBERED


def test_compressed_files_in_several_pieces(tmp_path):
    cut = LINES.index(b"\n") + 1
    skipped = b"\x50\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"abcd"
    how = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    press = zstandard.ZstdCompressor(compression_params=how).compressobj()
    pieces = {
        "gzip members": gzip.compress(LINES[:cut]) + gzip.compress(LINES[cut:]),
        "bzip2 streams": bz2.compress(LINES[:cut]) + bz2.compress(LINES[cut:]),
        "zstd frames": skipped + zstandard.compress(LINES[:cut]) + skipped + zstandard.compress(LINES[cut:]),
        "a long zstd window": press.compress(LINES) + press.flush(),
    }
    for name, data in pieces.items():
        assert rows_of(write(tmp_path, data)) == NUMBERED, name


def test_line_numbers_are_those_of_an_editor(tmp_path):
    data = b"\xef\xbb\xbf" + b"\r\n\n  \n" + LINES.replace(b"\n", b"\r\n") + b"\n" + b"\xef\xbb\xbf" + b'{"id": 9}'
    assert rows_of(write(tmp_path, data)) == [*((number + 3, row) for number, row in NUMBERED), (12, {"id": 9})]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (b'{"a": nan}', "not_json"),
        (b'{"a": "\\x"}', "not_json"),
        (b'{"a": "\xff"}', "not_utf8"),
        (b"[1]", "not_an_object"),
        (b"null", "not_an_object"),
        (b"[" * 100_000 + b"]" * 100_000, "nested_too_deep"),
        (b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested_too_deep"),
        (b'{"a": "' + b"x" * 1000 + b'"}', "row_too_large"),
        (b'{"a": "\x01"}', "not_json"),
        (b'{"a" 1}', "not_json"),
    ],
)
def test_one_odd_row_costs_that_row(tmp_path, row, expected):
    limit = {} if expected == "nested_too_deep" else {"max_row_bytes": 500}
    cut = LINES.index(b"\n") + 1
    numbers = [(1, ROWS[0]), (2, expected), *((number + 1, other) for number, other in NUMBERED[1:])]
    assert rows_of(write(tmp_path, LINES[:cut] + row + b"\n" + LINES[cut:]), **limit) == numbers
    elements = [json.dumps(other).encode() for other in ROWS]
    assert rows_of(write(tmp_path, b"[" + b",\n".join([elements[0], row, *elements[1:]]) + b"]"), **limit) == numbers


def test_a_row_of_too_many_values_is_not_built(tmp_path):
    data = b'{"a": [' + b"[]," * (jsonl.MAX_VALUES // 2 + 1) + b"0]}\n" + b'{"a": "' + b"," * 1000 + b'"}'
    assert [row for _, row in rows_of(write(tmp_path, data))] == ["row_too_large", {"a": "," * 1000}]


def test_what_nobody_reads_does_not_matter(tmp_path):
    data = b'{"a": "x", "b": ' + b"9" * 5000 + b', "c": NaN, "c": -Infinity, "d": 1e999}\n'
    ((_, row),) = rows_of(write(tmp_path, data))
    assert row["a"] == "x"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
def test_other_encodings_are_refused_with_the_remedy(tmp_path, encoding):
    for text in (LINES.decode(), json.dumps(ROWS)):
        with pytest.raises(DataError, match=r"d\.jsonl: line 1 is UTF-(16|32).*iconv -f UTF-(16|32)"):
            rows_of(write(tmp_path, text.encode(encoding)))


@pytest.mark.parametrize("press", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_a_truncated_file_says_how_far_it_was_read(tmp_path, press):
    draw = random.Random(1)
    noise = [{"id": number, "text": draw.getrandbits(64)} for number in range(20_000)]
    data = press("".join(json.dumps(row) + "\n" for row in noise).encode())
    for keep in (0.999, 0.5):
        with pytest.raises(DataError, match=r"d\.jsonl: truncated or damaged after line \d+") as raised:
            rows_of(write(tmp_path, data[: int(len(data) * keep)]))
        if press is not bz2.compress:  # a single block
            assert int(re.search(r"line (\d+)", str(raised.value))[1]) > 20_000 * (keep - 0.4)


def test_a_truncated_list_says_how_far_it_was_read(tmp_path):
    whole = json.dumps(ROWS[:3]).encode()
    for cut in range(1, len(whole)):
        with pytest.raises(DataError, match=r"d\.jsonl: truncated after entry \d"):
            rows_of(write(tmp_path, whole[:cut]))


def test_a_last_line_that_was_cut_is_odd(tmp_path):
    assert rows_of(write(tmp_path, LINES[:-10]))[-1] == (7, "truncated_row")
    assert rows_of(write(tmp_path, LINES[:-1])) == NUMBERED


BROKEN = [
    b'{"id": 5, "text": "a 5" screen"}',
    b'{"id": 5, "text": "a "b" c"}',
    b'{"id": 5, "text": [1, 2}',
    b'{"id": 5]}',
    b'{"id": 5, "text": "a\nb"}',
    b'{"id": 5,}',
    b'{"id": 5 "text": 1}',
    b"{'id': 5}",
    b'{"id": 5}}',
    b'{"id": 5, "text": "\\',
]


@pytest.mark.parametrize("size", [1, 2, 7, 64, 10_000])
@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_element_costs_one_element(size, broken):
    for position in range(len(ROWS) + (broken[-1:] == b"}")):  # at the end, it would be a truncated file
        for separator in (b",", b", ", b",\n  "):
            elements = [json.dumps(row).encode() for row in ROWS]
            elements.insert(position, broken)
            rows, is_unfinished = split_into(b"[" + separator.join(elements) + b"]\n", size)
            odd = {"id": 5} if broken == b'{"id": 5}}' else "not_json"
            assert rows == [*ROWS[:position], odd, *ROWS[position:]]
            assert not is_unfinished


@given(
    st.lists(st.dictionaries(st.text(), JSON, max_size=4), max_size=6),
    st.integers(1, 40),
    st.sampled_from([None, 1]),
    st.booleans(),
)
@example([{"": ""}], 1, None, True)
def test_a_list_is_cut_as_json_reads_it(rows, size, indent, ascii_only):
    data = json.dumps(rows, indent=indent, ensure_ascii=ascii_only).encode("utf-8", "replace")
    assert str(split_into(data, size)) == str((json.loads(data), False))  # as text, because NaN differs from itself


@given(
    st.lists(st.one_of(st.binary(max_size=30), JSON.map(lambda value: json.dumps(value).encode())), max_size=12),
    st.integers(1, 60),
)
def test_all_ranges_together_are_the_file(tmp_path_factory, lines, target):
    path = write(tmp_path_factory.mktemp("ranges"), b"\n".join(lines))
    try:
        whole = rows_of(path)
    except DataError:
        return
    assert str(rows_of(path, target)) == str(whole)


@settings(max_examples=300)
@given(st.binary(max_size=200) | st.text(alphabet='[]{}",:\\ \n1a', max_size=60).map(str.encode), st.integers(1, 30))
def test_no_bytes_raise_anything_but_a_data_error(tmp_path_factory, data, limit):
    path = write(tmp_path_factory.mktemp("any"), data)
    for options in ({}, {"max_row_bytes": limit}):
        try:
            rows_of(path, **options)
        except DataError as error:
            assert path.name in str(error)


def test_a_zip_archive_is_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__MACOSX/._a.jsonl", b"x")
        archive.writestr("docs/a.jsonl", LINES)
    assert rows_of(tmp_path / "d.zip") == NUMBERED
    with zipfile.ZipFile(tmp_path / "d.zip", "a") as archive:
        archive.writestr("b.json", json.dumps(ROWS))
    numbers = [f"{name}:{number}" for name in ("docs/a.jsonl", "b.json") for number in range(1, 8)]
    assert rows_of(tmp_path / "d.zip") == list(zip(numbers, ROWS * 2, strict=True))
    data = (tmp_path / "d.zip").read_bytes()
    for cut in (10, len(data) // 2, len(data) - 10):
        with pytest.raises(DataError, match=r"d\.zip"):
            rows_of(write(tmp_path / "cut", data[:cut], "d.zip"))


BOMB = """
import resource, sys
from pathlib import Path
sys.path[:0] = {path!r}
from mm1.data.prepare.files.jsonl import json_rows
from mm1.data.prepare.files.kinds import look
from mm1.data.prepare.files.raw import OddRow, RawInput
from mm1.data.prepare.locations.roots import LocalRoot
root = LocalRoot(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for file in root.list():
    rows = json_rows(RawInput("text", root, file, max_row_bytes=1 << 20))
    rows = [row.name if isinstance(row, OddRow) else row for _, row in rows]
    assert rows == ["row_too_large", {{"a": 1}}], rows
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


def test_bombs_are_not_built(tmp_path):
    for name, begin, end in (("line", b'{"text": "', b'"}\n{"a": 1}\n'), ("list", b'[{"text": "', b'"}, {"a": 1}]')):
        press = zstandard.ZstdCompressor().compressobj()
        with (tmp_path / f"{name}.zst").open("wb") as file, gzip.open(tmp_path / f"{name}.gz", "wb", 1) as zipped:
            for piece in (begin, *[b"a" * (1 << 22)] * 12, end):
                file.write(press.compress(piece))
                zipped.write(piece)
            file.write(press.flush())
    program = BOMB.format(path=sys.path)
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout) < 80


@pytest.mark.parametrize("press", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress])
def test_compressed_files_are_recognised_by_their_content(tmp_path, press):
    draw = random.Random(1)
    data = b"".join(json.dumps({"text": base64.b64encode(draw.randbytes(200_000)).decode()}).encode() + b"\n" for _ in range(6))
    for content, kind in ((data, "json-lines"), (LINES, "json-lines"), (b"", "empty")):
        root = LocalRoot(write(tmp_path, press(content), "d.bin"))
        assert look(root, root.list()[0]).kind == kind
    root = LocalRoot(write(tmp_path, press(data)[:30], "d.jsonl"))
    with pytest.raises(DataError, match=r"d\.jsonl: truncated or damaged at its beginning"):
        discover("text", root)


def test_ranges_know_the_numbers_of_their_lines_without_reading_what_is_before(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {number}"}) + "\n" * (1 + number % 3) for number in range(300)))
    root = LocalRoot(tmp_path)
    (file,) = root.list()
    whole = [*jsonl.json_rows(RawInput("text", root, file))]
    ranges = jsonl.split(root, file, 500)
    assert len(ranges) > 5 and all(each.lines_before is not None for each in ranges)
    assert [row for each in ranges for row in jsonl.json_rows(RawInput("text", root, each))] == whole
    uncounted = [each.model_copy(update={"lines_before": None}) for each in ranges]  # as in a bucket
    assert [row for each in uncounted for row in jsonl.json_rows(RawInput("text", root, each))] == whole
