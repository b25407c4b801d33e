"""Two models' answers to the same items."""

from __future__ import annotations

import random

import pyarrow as pa
import pytest

from mm1.errors import ConfigurationError
from mm1.evals.differences import compare_tables
from mm1.evals.samples import SCHEMA


def row(item, value, **fields):
    plain = {"task": "vqa", "split": "val", "shots": 0, "control": "none", "draw": 0, "item": str(item), "cluster": str(item)}
    plain |= {"prompt": f"question {item}", "images": ["a"], "references": ["red"], "choices": [], "prediction": "blue"}
    return plain | {"values": [("accuracy", value)], "question": f"question {item}"} | fields


def table(rows):
    return pa.Table.from_pylist(rows, SCHEMA)


def test_differences_are_paired_by_item_whatever_the_order_of_the_rows():
    rng = random.Random(0)
    values = [rng.random() for _ in range(60)]
    rows_a = [row(number, value) for number, value in enumerate(values)]
    rows_b = [row(number, max(0.0, value - 0.1)) for number, value in enumerate(values)]
    rng.shuffle(rows_b)
    (result,) = compare_tables(table(rows_a), table(rows_b)).results
    assert 0.05 < result.difference.mean <= 0.1 and result.difference.low > 0 and result.difference.p_value < 0.05
    assert (result.task, result.metric, result.difference.num_items) == ("vqa", "accuracy", 60)
    assert result.value_a - result.value_b == pytest.approx(result.difference.mean)
    equal = compare_tables(table(rows_a), table(rows_a))
    assert equal.results[0].difference.mean == 0 and equal.results[0].difference.p_value == 1
    assert not list(equal.most_different(5))


def test_the_items_that_differ_most_are_listed():
    rows_a = [row(number, 0.5) for number in range(30)]
    rows_b = [row(number, 0.5 + (number == 7) * 0.5 - (number == 9) * 0.25) for number in range(30)]
    controlled = [row(number, 1.0, control="shuffled") for number in range(30)]
    comparison = compare_tables(table(rows_a + controlled), table(rows_b + controlled))
    listed = [(each["item"], other["item"], metric) for _, metric, each, other in comparison.most_different(5)]
    assert listed == [("7", "7", "accuracy"), ("9", "9", "accuracy")]
    assert len(list(comparison.most_different(1))) == 1 and len(comparison.results) == 2


def test_rounds_of_one_evaluation_alone_are_named():
    both = [row(number, 1.0) for number in range(5)]
    comparison = compare_tables(table([*both, row(1, 1.0, shots=4)]), table([*both, row(1, 1.0, task="pope")]))
    assert comparison.only_a == (("vqa", "val", 4, "none"),) and comparison.only_b == (("pope", "val", 0, "none"),)
    with pytest.raises(ConfigurationError, match=r"nothing to compare: the first evaluation has vqa@0, the second pope@0"):
        compare_tables(table(both), table([row(1, 1.0, task="pope")]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows[:-2], r"2 items only in the first evaluation: 8, 9; .*--limit"),
        (lambda rows: [*rows, row(99, 1.0)], r"1 item only in the second evaluation: 99"),
        (lambda rows: [row(3, 1.0, draw=1), *rows], r"only in the second evaluation: 3"),
        (lambda rows: [each | {"prompt": "other"} for each in rows], r"prompt of 0, 1, 2, 3, 4 and 5 more; .*templates"),
        (lambda rows: [*rows[:-1], rows[-1] | {"images": ["b"]}], r"different inputs for 1 item, images of 9"),
        (lambda rows: [*rows[:-1], rows[-1] | {"references": ["green"]}], r"references of 9"),
    ],
)
def test_other_items_and_other_prompts_are_refused_by_name(change, message):
    rows = [row(number, 1.0) for number in range(10)]
    with pytest.raises(ConfigurationError, match=message):
        compare_tables(table(rows), table(change(rows)))


def test_results_without_references_have_nothing_to_compare():
    rows = [row(number, 1.0) | {"values": []} for number in range(10)]
    comparison = compare_tables(table(rows), table(rows))
    assert comparison.results == () and not list(comparison.most_different(5))


def test_metrics_that_only_one_has_are_left_out():
    graded = [row(number, 0.5, values=[("grade", 0.5), ("accuracy", 1.0)]) for number in range(4)]
    plain = [row(number, 0.25) for number in range(4)]
    for first, second in ((graded, plain), (plain, graded)):
        comparison = compare_tables(table(first), table(second))
        assert [result.metric for result in comparison.results] == ["accuracy"]
        assert {metric for _, metric, _, _ in comparison.most_different(5)} == {"accuracy"}


def test_draws_are_not_counted_as_items():
    rows = [row(number, 0.5, draw=draw) for draw in range(3) for number in range(8)]
    (result,) = compare_tables(table(rows), table(rows)).results
    assert result.num_items == 8 and result.difference.num_items == 24
