"""The gate's rules and verdicts."""

from __future__ import annotations

import pytest

from mm1.errors import ConfigurationError
from mm1.evals.gate import judge, parse_rules
from mm1.manifests import EvalReport, Score
from mm1.store.base import BlobRef

DIGEST = "0" * 64


def report(**values: float) -> EvalReport:
    scores = tuple(
        Score(
            task=name.split("__")[0],
            split="test",
            metric="accuracy",
            shots=int(name.split("__")[1]),
            control="shuffled" if name.endswith("shuffled") else "none",
            value=value,
            stderr=0.01,
            num_items=9,
        )
        for name, value in values.items()
    )
    empty = BlobRef(sha256=DIGEST, num_bytes=0)
    return EvalReport(checkpoint=DIGEST, benchmarks=DIGEST, config={}, scores=scores, examples=empty)


@pytest.mark.parametrize(
    ("rule", "value", "passed"),
    [
        ("vqa/4/accuracy>=0.5", 0.5, True),
        ("vqa/4/accuracy>0.5", 0.5, False),
        ("vqa/4/accuracy<=0.5", 0.51, False),
        ("vqa/4/accuracy < 1e0", 0.99, True),
        ("vqa/4/accuracy >= .6", 0.59, False),
    ],
)
def test_a_rule_compares_a_score_with_a_number(rule, value, passed):
    (verdict,) = judge(parse_rules(rule), [report(vqa__4=value)])
    assert verdict.passed is passed and verdict.value == value and "9 items of test" in verdict.reason


def test_the_control_is_a_score_of_its_own_and_the_last_report_counts():
    rules = parse_rules("vqa/0/accuracy>=0.5 vqa/0/accuracy/shuffled<=0.4\nnovel/8/accuracy>=0.8")
    base = report(vqa__0=0.9, vqa__0__shuffled=0.3, novel__8=0.9)
    tuned = report(vqa__0=0.1)
    assert [verdict.passed for verdict in judge(rules, [base, tuned])] == [False, True, True]
    assert [verdict.passed for verdict in judge(rules, [tuned, base])] == [True, True, True]


def test_what_was_not_measured_has_not_passed():
    (verdict,) = judge(parse_rules("vqa/8/accuracy<=1"), [report(vqa__4=0.5)])
    assert not verdict.passed and verdict.value is None and "vqa/4/accuracy" in verdict.reason


@pytest.mark.parametrize(
    "text", ["", "vqa", "vqa/4/accuracy", "vqa/four/accuracy>=1", "vqa/4/accuracy>=x", "vqa/4/accuracy=>1"]
)
def test_a_rule_that_cannot_be_read_is_refused(text):
    with pytest.raises(ConfigurationError, match="rules"):
        parse_rules(text)
