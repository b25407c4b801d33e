"""The gate's rules, and its verdicts on the scores of a checkpoint alone."""

from __future__ import annotations

import pytest

from mm1.errors import ConfigurationError
from mm1.evals.gate import judge, parse_rules
from mm1.manifests import EvalReport, Score, digest_of_manifest
from mm1.store.base import BlobRef

BASE, TUNED = "a" * 64, "b" * 64
EMPTY = BlobRef(sha256="0" * 64, num_bytes=0)


def score(name: str, value: float, split: str = "test") -> Score:
    task, shots, *control = name.split("__")
    return Score(
        task=task,
        split=split,
        metric="accuracy",
        shots=int(shots),
        control=control[0] if control else "none",
        value=value,
        stderr=0.01,
        num_items=9,
    )


def report(checkpoint: str = TUNED, *more: Score, **values: float) -> EvalReport:
    scores = (*(score(name, value) for name, value in values.items()), *more)
    return EvalReport(checkpoint=checkpoint, benchmarks="0" * 64, config={}, scores=scores, examples=EMPTY)


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


def test_the_verdict_names_whose_score_it_is():
    of_tuned = report(vqa__4=0.5)
    (verdict,) = judge(parse_rules("vqa/4/accuracy>=0.5"), [of_tuned])
    assert verdict.report == digest_of_manifest(of_tuned)
    assert f"checkpoint {TUNED[:12]}, report {verdict.report[:12]}" in verdict.reason


def test_the_control_is_a_score_of_its_own():
    rules = parse_rules("vqa/0/accuracy>=0.5 vqa/0/accuracy/shuffled<=0.4\nnovel/8/accuracy>=0.8")
    verdicts = judge(rules, [report(vqa__0=0.9, vqa__0__shuffled=0.5, novel__8=0.9)])
    assert [verdict.passed for verdict in verdicts] == [True, False, True]


@pytest.mark.parametrize("reports", [[report(BASE, vqa__4=0.99), report(TUNED, text__0=0.9)], [report(TUNED)]])
def test_scores_of_another_checkpoint_never_count(reports):
    (verdict,) = judge(parse_rules("vqa/4/accuracy>=0.5"), reports)
    assert not verdict.passed and verdict.value is None and verdict.unjudged == "not scored"
    assert f"not scored for checkpoint {TUNED[:12]}" in verdict.reason and 'add "vqa@4"' in verdict.reason
    assert ("0.990" in verdict.reason) is (len(reports) == 2), "the other score is mentioned, and does not count"


def test_the_order_of_the_reports_does_not_matter_if_the_checkpoint_is_given():
    reports = [report(TUNED, vqa__4=0.4), report(BASE, vqa__4=0.99)]
    assert not judge(parse_rules("vqa/4/accuracy>=0.5"), reports, TUNED)[0].passed
    assert judge(parse_rules("vqa/4/accuracy>=0.5"), reports, BASE)[0].passed
    (verdict,) = judge(parse_rules("vqa/4/accuracy>=0.5"), reports, "c" * 64)
    assert not verdict.passed and "none of the reports is of this checkpoint" in verdict.reason


def test_several_reports_of_the_checkpoint_complement_each_other_and_must_not_disagree():
    rules = parse_rules("vqa/4/accuracy>=0.5 text/0/accuracy>=0.5")
    assert all(verdict.passed for verdict in judge(rules, [report(vqa__4=0.9), report(text__0=0.9)]))
    assert all(verdict.passed for verdict in judge(rules, [report(vqa__4=0.9, text__0=0.9), report(text__0=0.9)]))
    _, verdict = judge(rules, [report(vqa__4=0.9, text__0=0.4), report(text__0=0.9)])
    assert not verdict.passed and "scored 2 times: 0.400" in verdict.reason and "0.900" in verdict.reason


@pytest.mark.parametrize(
    ("rule", "remedy"),
    [
        ("vqa/8/accuracy>=0", 'set "vqa@0,4,8" in the tasks of its evaluation, which has task vqa with 0 and 4 shots only'),
        ("captions/0/cider>=0", 'add "captions@0" to the tasks of its evaluation'),
        ("vqa/4/f1>=0", "task vqa has no metric f1; its metrics: accuracy"),
        ("vqa/4/accuracy/shuffled<=1", "controls=true adds the image-shuffled control, if task vqa has it with 4 shots"),
        ("vqa:dev/4/accuracy>=0", 'add "vqa:dev@4" to the tasks'),
    ],
)
def test_a_score_that_is_missing_is_a_refusal_with_the_remedy(rule, remedy):
    (verdict,) = judge(parse_rules(rule), [report(vqa__4=0.5, vqa__0=0.5)])
    assert not verdict.passed and verdict.value is None and remedy in verdict.reason


def test_a_rule_can_name_the_split():
    both = report(TUNED, score("vqa__4", 0.4, "dev"), score("vqa__4", 0.9, "test"))
    rules = parse_rules("vqa:dev/4/accuracy<=0.5 vqa:test/4/accuracy>=0.5 vqa/4/accuracy>=0.1")
    dev, test, unnamed = judge(rules, [both])
    assert dev.passed and test.passed and not unnamed.passed and "name the split" in unnamed.reason


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("captions/0/content_f1>=serving-0.02", "captions/0/content_f1 >= serving-0.02"),
        ("captions/0/content_f1 >= serving - .02", "captions/0/content_f1 >= serving-0.02"),
        ("vqa/0/accuracy/shuffled<=serving+0.05", "vqa/0/accuracy/shuffled <= serving+0.05"),
        ("vague/4/accuracy > serving", "vague/4/accuracy > serving"),
        ("vqav2:testdev/0/accuracy>=0.6", "vqav2:testdev/0/accuracy >= 0.6"),
    ],
)
def test_a_rule_in_its_own_words(text, said):
    (rule,) = parse_rules(text)
    assert str(rule) == said and parse_rules(str(rule)) == [rule]


def test_spaces_separate_rules_and_belong_to_them():
    rules = parse_rules("a/0/x >= serving - 0.1 b/0/x>=serving\nc/4/x<0.5  d/4/x >serving +0.1")
    assert [str(rule) for rule in rules] == ["a/0/x >= serving-0.1", "b/0/x >= serving", "c/4/x < 0.5", "d/4/x > serving+0.1"]
    assert [rule.margin for rule in rules if rule.relative] == [0.1, 0.0, -0.1]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "vqa",
        "vqa/4/accuracy",
        "vqa/four/accuracy>=1",
        "vqa/4/accuracy>=x",
        "vqa/4/accuracy=>1",
        "vqa/4/accuracy>=serving-",
        "vqa/4/accuracy>=serving--0.1",
        "vqa/4/accuracy>=serving-x",
        "vqa/4/accuracy>=served-0.1",
        "vqa/4/accuracy>=serving*0.9",
        "vqa/4/accuracy>=serving-nan",
        "vqa:/4/accuracy>=1",
    ],
)
def test_a_rule_that_cannot_be_read_is_refused_by_name(text):
    with pytest.raises(ConfigurationError, match="rules") as error:
        parse_rules(f"text/0/accuracy>=0 {text}" if text else "")
    assert text in str(error.value)
