"""Rows of tables: parquet and Arrow, every type of column, ranges, damage, large rows."""

import datetime
import random
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mm1.data.prepare.files import parquet
from mm1.data.prepare.files.raw import OddRow, RawInput
from mm1.data.prepare.locations.joined import JoinedRoot
from mm1.data.prepare.locations.roots import LocalRoot
from mm1.errors import DataError

FORMS = ("parquet", "file.arrow", "stream.arrow")


def write(path, table, rows_per_group=3):
    """Write a table as parquet, Arrow file or Arrow stream, by the name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=rows_per_group)
        return path
    make = pa.ipc.new_file if path.name == "file.arrow" else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink, make(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows_per_group)
    return path


def name_of(form):
    return "d.parquet" if form == "parquet" else form


def rows_of(path, target_bytes=None, needed=("a",), **options):
    root = LocalRoot(path)
    files = root.list() if target_bytes is None else parquet.split(root, root.list()[0], target_bytes)
    inputs = [RawInput("text", root, file, **options) for file in files]
    rows = [item for file in inputs for item in parquet.rows(file, needed, ("b",))]
    assert all(file.num_done <= file.file.num_bytes for file in inputs)
    return [(number, row.name if isinstance(row, OddRow) else row) for number, row in rows]


@pytest.mark.parametrize("form", FORMS)
def test_only_the_needed_columns_are_read_in_all_ranges(tmp_path, form):
    table = pa.table({"a": [f"row {number}" for number in range(20)], "c": [b"x" * 100] * 20, "b": range(20)})
    path = write(tmp_path / name_of(form), table)
    expected = [(number + 1, {"a": f"row {number}", "b": number}) for number in range(20)]
    assert rows_of(path) == expected
    root = LocalRoot(path)
    for target in (1, 200, 500, 10_000_000):
        assert rows_of(path, target) == expected
        ranges = parquet.split(root, root.list()[0], target)
        assert sum(file.num_bytes for file in ranges) == path.stat().st_size
    assert len(parquet.split(root, root.list()[0], 1)) == 7
    with pytest.raises(DataError, match=r"no column 'z'; its columns are a, c, b"):
        rows_of(path, needed=("z",))


COLUMNS = {
    "text": pa.array(["é", None, ""]),
    "large text": pa.array(["x", "y", None], pa.large_string()),
    "text view": pa.array(["x", "y" * 50, None], pa.string_view()),
    "dictionary": pa.array(["x", "y", "x"]).dictionary_encode(),
    "binary": pa.array([b"x", b"\xff", None], pa.binary()),
    "fixed binary": pa.array([b"xy", b"\xff\0", None], pa.binary(2)),
    "binary view": pa.array([b"x", b"\xff", None], pa.binary_view()),
    "decimal": pa.array([Decimal("1.5"), None, Decimal("2.5")], pa.decimal128(10, 2)),
    "date": pa.array([datetime.date(2026, 1, 1), None, datetime.date(1, 1, 1)]),
    "a date in the year 20000": pa.array([6_600_000, 1, 2], pa.date32()),
    "timestamp": pa.array([1, 2**62, None], pa.timestamp("ns", "UTC")),
    "timestamp of an unknown zone": pa.array([1, 2, None], pa.timestamp("us", "Mars/Olympus")),
    "duration": pa.array([1, 2**62, None], pa.duration("s")),
    "time": pa.array([1, 2, None], pa.time64("ns")),
    "half": pa.array(np.array([1.5, np.nan, np.inf], np.float16)),
    "null": pa.nulls(3),
    "list": pa.array([["x", None], [], None]),
    "list view": pa.array([["x"], [], None], pa.list_view(pa.string())),
    "struct": pa.array([{"bytes": b"x", "path": None}, None, {"bytes": None, "path": "p"}]),
    "map": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    "nested": pa.array([[{"a": [{"b": b"\xff"}]}], [], None]),
    "unsigned": pa.array([2**64 - 1, 0, None], pa.uint64()),
    "months": pa.array([(1, 2, 3), None, (0, 0, 0)], pa.month_day_nano_interval()),
    "union": pa.UnionArray.from_sparse(pa.array([0, 1, 0], pa.int8()), [pa.array([1, 2, 3]), pa.array(["x", "y", "z"])]),
    "runs": pa.RunEndEncodedArray.from_arrays([2, 3], ["x", "y"]),
}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("form", FORMS)
def test_every_type_gives_rows_or_odd_rows(tmp_path, form, kind):
    table = pa.table({"a": COLUMNS[kind], "b": [1, 2, 3]})
    try:
        path = write(tmp_path / name_of(form), table)
    except (pa.ArrowException, NotImplementedError):
        pytest.skip("the format does not have this type")
    rows = rows_of(path)
    assert [number for number, _ in rows] == [1, 2, 3]
    assert all(row == "unreadable_row" or row["b"] == number for number, row in rows)
    if kind not in ("a date in the year 20000", "timestamp", "timestamp of an unknown zone", "duration"):
        assert not [row for _, row in rows if isinstance(row, str)]


@pytest.mark.parametrize("form", FORMS)
def test_text_that_is_not_utf8_costs_its_row(tmp_path, form):
    offsets, data = pa.py_buffer(np.array([0, 1, 2, 3, 4], np.int32)), pa.py_buffer(b"a\xffbc")
    table = pa.table({"a": pa.Array.from_buffers(pa.string(), 4, [None, offsets, data])})
    assert rows_of(write(tmp_path / name_of(form), table)) == [
        (1, {"a": "a"}),
        (2, "not_utf8"),
        (3, {"a": "b"}),
        (4, {"a": "c"}),
    ]


@pytest.mark.parametrize("form", FORMS)
def test_a_large_row_costs_that_row(tmp_path, form):
    table = pa.table({"a": [b"x", b"y" * 5000, b"z"] * 5, "b": [["x" * 10] * 3, [], ["x"] * 400] * 5})
    path = write(tmp_path / name_of(form), table, rows_per_group=15)
    assert [row if isinstance(row, str) else len(row["a"]) for _, row in rows_of(path, max_row_bytes=4096)] == [
        1,
        "row_too_large",
        1,
    ] * 5
    encoded = pa.table({"a": pa.array(["x", "y" * 5000, "x"]).dictionary_encode()})
    path = write(tmp_path / "encoded" / name_of(form), encoded)
    assert [row for _, row in rows_of(path, max_row_bytes=4096)] == [{"a": "x"}, "row_too_large", {"a": "x"}]


def test_a_group_of_large_rows_is_not_read(tmp_path):
    path = write(tmp_path / "d.parquet", pa.table({"a": [bytes(1 << 20)] * 20 + [b"x"]}), rows_per_group=20)
    assert [row for _, row in rows_of(path, max_row_bytes=1 << 16)] == ["row_too_large"] * 20 + [{"a": b"x"}]


def test_a_value_that_many_rows_share_is_not_repeated_in_memory(tmp_path):
    values = pa.DictionaryArray.from_arrays(pa.array([0] * 300, pa.int32()), pa.array([b"y" * (2 << 20)]))
    path = write(tmp_path / "d.parquet", pa.table({"a": values}), rows_per_group=300)
    assert path.stat().st_size < 1 << 20
    metadata = pq.ParquetFile(path).metadata.row_group(0)
    (file,) = (RawInput("text", root, file, max_row_bytes=4 << 20) for root in [LocalRoot(path)] for file in root.list())
    assert parquet._batch_size(file, metadata, ["a"]) == 7
    assert [len(row["a"]) for _, row in rows_of(path, max_row_bytes=4 << 20)] == [2 << 20] * 300


def test_a_cell_that_expands_more_than_data_does_is_not_built(tmp_path):
    table = pa.table({"a": [b"x"] * 10 + [bytes(1 << 24)], "b": range(11)})
    pq.write_table(table, tmp_path / "d.parquet", compression="zstd")
    assert {row for _, row in rows_of(tmp_path / "d.parquet", max_row_bytes=1 << 20)} == {"row_too_large"}
    assert len(rows_of(tmp_path / "d.parquet", needed=("b",), max_row_bytes=1 << 20)) == 11


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_named(tmp_path, form):
    table = pa.table({"a": [f"row {random.Random(number).random()}" for number in range(2000)]})
    data = write(tmp_path / name_of(form), table, 100).read_bytes()
    for cut in (6, 50, len(data) // 2, len(data) - 9, len(data) - 1):
        path = tmp_path / name_of(form)
        path.write_bytes(data[:cut])
        with pytest.raises(DataError, match=rf"{name_of(form)}: damaged.*not a valid parquet or Arrow file"):
            rows_of(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.sampled_from(FORMS), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_bytes_raise_nothing_but_data_errors(tmp_path, form, changes):
    table = pa.table({"a": [f"row {number}" for number in range(30)], "b": [[{"c": b"x", "d": "y"}]] * 30})
    data = bytearray(write(tmp_path / name_of(form), table, 10).read_bytes())
    for position, value in changes:
        data[int(position * (len(data) - 1))] = value
    (tmp_path / "damaged").mkdir(exist_ok=True)
    path = tmp_path / "damaged" / name_of(form)
    path.write_bytes(data)
    try:
        rows_of(path)
    except DataError as error:
        assert path.name in str(error)


def test_arrow_files_of_several_local_addresses_are_split_too(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        table = pa.table({"text": [f"row {number} of {name} " * 20 for number in range(400)]})
        with pa.ipc.new_stream(str(tmp_path / name / "data.arrow"), table.schema) as writer:
            writer.write_table(table, max_chunksize=50)
    root = JoinedRoot({name: LocalRoot(tmp_path / name) for name in ("one", "two")})
    for file in root.list():
        ranges = parquet.split(root, file, 20_000)
        assert len(ranges) > 2
        rows = [row["text"] for each in ranges for _, row in parquet.rows(RawInput("text", root, each), ("text",))]
        assert rows == [f"row {number} of {file.name.partition(':')[0]} " * 20 for number in range(400)]
