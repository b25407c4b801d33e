"""Retry strategies mean what they mean in Argo, or are refused."""

from __future__ import annotations

import math
from typing import Any

import pytest

from mm1.errors import RETRIED, ConfigurationError
from mm1_workflows.argo.retries import RETRY_EXPRESSION, Retry, evaluate, read_retry, retry_codes

CODE = "asInt(lastRetry.exitCode)"


def test_the_retry_expression_names_the_classes_that_can_pass() -> None:
    assert retry_codes(RETRY_EXPRESSION) == {int(outcome) for outcome in RETRIED}
    assert retry_codes(f"{CODE} > 250") == {251, 252, 253, 254, 255}
    assert retry_codes('lastRetry.status == "Error"') is None
    assert retry_codes("lastRetry.duration > 3") is None


@pytest.mark.parametrize(
    ("strategy", "retried"),
    [
        (None, set()),
        ({"limit": 2}, {1, 84}),
        ({"limit": "2"}, {1, 84}),
        ({"limit": 0}, set()),
        ({}, {1, 84}),
        ({"limit": 2, "retryPolicy": "Always"}, {1, 84}),
        ({"limit": 2, "retryPolicy": "OnFailure"}, {1, 84}),
        ({"limit": 2, "retryPolicy": "OnError"}, set()),
        ({"limit": 2, "expression": f"{CODE} in [84, 85]"}, {84}),
        ({"limit": 2, "retryPolicy": "OnError", "expression": f"{CODE} in [84, 85]"}, set()),
        ({"limit": 2, "expression": f"!({CODE} in [84, 85])"}, {1}),
        ({"limit": 2, "expression": f"not ({CODE} in [84, 85])"}, {1}),
        ({"limit": 2, "expression": f"{CODE} not in [84, 85]"}, {1}),
        ({"limit": 2, "expression": f"{CODE} > 80 && {CODE} != 85"}, {84}),
        ({"limit": 2, "expression": f"{CODE} == 1 or lastRetry.exitCode == '84'"}, {1, 84}),
        ({"limit": 2, "expression": f"({CODE} < 3 || false) && !(lastRetry.status == 'Error')"}, {1}),
        ({"limit": 2, "expression": "true"}, {1, 84}),
    ],
)
def test_what_is_retried(strategy: dict[str, Any] | None, retried: set[int]) -> None:
    assert {code for code in (1, 84) if read_retry(strategy).covers(code)} == retried


@pytest.mark.parametrize(
    ("expression", "complaint"),
    [
        (f"!{CODE} in [82]", r"write !\(…\)"),
        (f"!({CODE}) in [82]", r"write !\(…\)"),
        (f"not {CODE} in [82]", r"write !\(…\)"),
        ("lastRetry.duration == '3'", "lastRetry.duration"),
        ("lastRetry.message matches 'x'", "cannot read"),
        ("lastRetry.exitCode == 84", "lastRetry.exitCode == 84"),
        (f"{CODE} in ['84']", "84"),
        (f"1 < {CODE} < 9", "1 < asInt"),
        ("asFloat(lastRetry.exitCode) > 1", "asFloat"),
        (f"{CODE} + 1 == 2", "cannot read"),
        (CODE, "expected a condition"),
        ("", "cannot read"),
        ("(", "cannot read"),
        ("__import__('os')", "cannot read"),
        ("{{inputs.parameters.x}}", "cannot read"),
    ],
)
def test_other_expressions_are_refused(expression: str, complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        evaluate(expression, 1)


def test_waits_grow_without_a_cap_and_stop_at_it() -> None:
    grown = read_retry({"limit": 9, "backoff": {"duration": "10m", "factor": 2}})
    assert [grown.wait_before(attempt) for attempt in (1, 2, 3)] == [600, 1200, 2400]
    capped = read_retry({"limit": 9, "backoff": {"duration": 10, "factor": "3", "cap": "1m", "maxDuration": "2h"}})
    assert [capped.wait_before(attempt) for attempt in (1, 2, 3)] == [10, 30, 60]
    assert (capped.max_time_s, Retry().max_time_s) == (7200, math.inf)
