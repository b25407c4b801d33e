"""Conditions mean what they mean in Argo: the table was made with govaluate 3.0.1, evaluated as Argo 4.0 does."""

from __future__ import annotations

import pytest

from mm1.errors import ConfigurationError
from mm1_workflows.argo.conditions import Condition, parse_condition

OUTPUT = "{{tasks.gate.outputs.parameters.decision}}"
ERROR = "error"


def condition_of(text: str) -> Condition:
    condition = parse_condition(text.replace("OUTPUT", OUTPUT))
    assert condition is not None
    return condition


@pytest.mark.parametrize(
    ("text", "value", "expected"),
    [
        ("OUTPUT == pass", "pass", True),
        ("OUTPUT == pass", "Pass", False),
        ("OUTPUT == pass", " pass\n", True),
        ("OUTPUT == pass", "1", False),
        ("OUTPUT == pass", "true", False),
        ("OUTPUT == pass", "needs work", ERROR),
        ("OUTPUT == pass", "needs-work", ERROR),
        ("OUTPUT == pass", "", ERROR),
        ("OUTPUT == pass", "a.b", ERROR),
        ("OUTPUT == pass", "in", ERROR),
        ("OUTPUT == pass", "it's", ERROR),
        ("OUTPUT == pass", "x\u00b2", ERROR),
        ("OUTPUT != pass", "-1", True),
        ("OUTPUT != pass", "1a", ERROR),
        ("OUTPUT == 'pass'", "pass", True),
        ("OUTPUT == true", "true", True),
        ("OUTPUT == true", "True", False),
        ("OUTPUT == \u00e9", "\u00e9", True),
        ("'OUTPUT' == 'needs-work'", "needs-work", True),
        ("'OUTPUT' == 'needs-work'", " needs-work", False),
        ("'OUTPUT' != 'needs-work'", "needs work", True),
        ("'OUTPUT' == ''", "", True),
        ("'OUTPUT' == '1'", "1.0", False),
        ("'OUTPUT' == 'true'", "true", True),
        ("'OUTPUT' == 'pass'", "it's", ERROR),
        ("'OUTPUT' == 'pass'", 'say "x"', ERROR),
        ("'OUTPUT' == 'ab'", "a\\b", True),
        ("'OUTPUT' == 'ab'", "ab\\", ERROR),
        ('"OUTPUT" == "12 %"', "12 %", True),
    ],
)
def test_a_condition_holds_as_in_argo(text: str, value: str, expected: bool | str) -> None:
    condition = condition_of(text)
    assert condition.problem() == ""
    if expected == ERROR:
        with pytest.raises(ConfigurationError, match="Argo cannot read"):
            condition.holds(value)
    else:
        assert condition.holds(value) is expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("OUTPUT == needs-work", "Argo cannot read 'needs-work' without quotes; write '{{tasks"),
        ("OUTPUT == 'needs-work'", "Argo cannot read 'needs-work' without quotes"),
        ("OUTPUT == 1", "as a number, where 1.0 equals 1; write .* == '1'"),
        ("OUTPUT == '1'", "as a number"),
        ("'OUTPUT' == true", "a truth value; write .* == 'true'"),
        ("OUTPUT == a.b", "without quotes"),
        ("OUTPUT == ''", "without quotes"),
        ("'OUTPUT' == '2026-01-01'", "as a time"),
        ("'OUTPUT' == '3:04PM'", "as a time"),
    ],
)
def test_a_literal_that_engines_read_differently_is_named_with_the_remedy(text: str, complaint: str) -> None:
    with pytest.raises(AssertionError, match=complaint):
        raise AssertionError(condition_of(text).problem())


@pytest.mark.parametrize(
    "text",
    [
        "{{workflow.parameters.x}} == a",
        f"{OUTPUT} == a && {OUTPUT} == b",
        f"{OUTPUT} > 3",
        "{{tasks.a.outputs.result}} == a",
        f"{OUTPUT} == 'a",
        f"'{OUTPUT} == 'a'",
        f"'{OUTPUT}' == 'a\\b'",
        "true",
    ],
)
def test_other_conditions_are_not_understood(text: str) -> None:
    assert parse_condition(text) is None
