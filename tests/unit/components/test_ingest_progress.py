"""What ingest says while it runs and at its end."""

import time

import pytest

from mm1.data.prepare.meter import Meter
from mm1_components.parts import progress
from mm1_components.parts.progress import Progress, describe, report, skip
from mm1_components.parts.summary import in_table


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("photos/a_1.jpg", "photos/a_1.jpg"),
        ("a\nb\tc", "a b c"),
        ("a|b", "a&#124;b"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("[x](javascript:y)", "&#91;x&#93;(javascript:y)"),
        ("\x1b[31mred", " &#91;31mred"),
    ],
)
def test_a_name_cannot_break_the_table(name, shown):
    assert in_table(name) == shown


def test_the_line_of_progress_names_rate_time_left_and_what_takes_the_time():
    line = describe([1000, 50e6, 1.0, 3.0, 1.0], 200_000_000, 10.0)
    assert line == "50 of 200 MB, 1,000 rows, 5.0 MB/s, 0:00:30 left, 60% filters"
    assert (
        describe([9, 200e6, 1.0, 3.0, 1.0], 200_000_000, 10.0) == "200 of 200 MB, 9 rows, 20.0 MB/s, all filtered, 60% filters"
    )
    assert describe([0, 0, 0, 0, 0], 200_000_000, 10.0) == "0 of 200 MB, 0 rows, 0.0 MB/s"


def test_a_meter_counts_rows_and_bytes_once():
    seen = []
    position = iter([10, 20, 30, 40])
    meter = Meter(lambda increases: seen.append(list(increases)))
    for _ in meter.count(["a", "b", "c"], lambda: next(position)):
        meter.done("filters")
    totals = [sum(column) for column in zip(*seen, strict=True)]
    assert totals[:2] == [3, 40]
    assert all(seconds >= 0 for seconds in totals[2:])


class _Context:
    def __init__(self):
        self.lines, self.steps = [], []

    def figures(self, line):
        self.lines.append(line)

    def progress(self, done, total):
        self.steps.append((done, total))


def test_one_large_part_moves_the_display_before_it_is_done(monkeypatch):
    monkeypatch.setattr(progress, "SHOW_S", 0.01)
    context = _Context()
    with Progress(context, 100_000_000, num_parts=1, rounds=2) as shown:
        report([500, 25e6, 1.0, 2.0, 0.5])
        deadline = time.monotonic() + 10
        while not any(line.startswith("25 of 100 MB, 500 rows") for line in context.lines) and time.monotonic() < deadline:
            time.sleep(0.01)
        shown.advance()
    assert any(line.startswith("25 of 100 MB, 500 rows") for line in context.lines)
    assert context.steps == [(1, 2)]


def test_what_an_earlier_run_has_filtered_is_not_left_to_do(monkeypatch):
    monkeypatch.setattr(progress, "SHOW_S", 0.01)
    context = _Context()
    with Progress(context, 100_000_000, num_parts=2, rounds=2):
        skip(60e6)
        report([500, 10e6, 1.0, 2.0, 0.5])
        deadline = time.monotonic() + 10
        while not any(line.startswith("10 of 40 MB") for line in context.lines) and time.monotonic() < deadline:
            time.sleep(0.01)
        report([500, 30e6, 1.0, 2.0, 0.5])
        while not any("all filtered" in line for line in context.lines) and time.monotonic() < deadline:
            time.sleep(0.01)
    assert any(line.startswith("10 of 40 MB, 500 rows") for line in context.lines)
    assert any(line.startswith("40 of 40 MB, 1,000 rows") and "all filtered" in line for line in context.lines)
