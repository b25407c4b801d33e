"""What counts as an integer or a number in a user's text, the same for every parameter."""

from __future__ import annotations

from inspect import signature

import pytest

from mm1.config.values import parse_integer, parse_number, quoted
from mm1.data.features.snapshot import parse_thresholds
from mm1.data.load.mixture import parse_weights
from mm1.errors import ConfigurationError
from mm1.evals.gate import parse_rules
from mm1.evals.tasks.registry import parse_name
from mm1_components import data_mix
from mm1_components.evaluate import Inputs, eval_config
from mm1_components.report import status_of
from mm1_components.wrapper.checks import field_value

NOT_INTEGERS = ["", " 5", "5\n", "²", "٣", "1_000", "1.0", "1e3", "0x10", "9" * 19, "9" * 5000]
NOT_NUMBERS = ["", ".", "1,5", "٣", "1_0", "nan", "inf", "1e999", "1e", "0x1", "1 "]


@pytest.mark.parametrize("text", [*NOT_INTEGERS, "-1", "+1"])
def test_texts_that_are_no_integers(text: str) -> None:
    with pytest.raises(ValueError, match="expected an integer"):
        parse_integer(text)


def test_integers() -> None:
    assert [parse_integer(text) for text in ("0", "007", "9" * 18)] == [0, 7, 10**18 - 1]
    assert [parse_integer(text, signed=True) for text in ("-1", "+1", "1")] == [-1, 1, 1]


@pytest.mark.parametrize("text", NOT_NUMBERS)
def test_texts_that_are_no_numbers(text: str) -> None:
    with pytest.raises(ValueError, match="expected a number"):
        parse_number(text)


@pytest.mark.parametrize("text", ["0.5", ".5", "+0.5", "5.", "-1", "1e+3", "1E-3", "1e3"])
def test_thresholds_rules_and_weights_have_one_syntax_of_numbers(text: str) -> None:
    value = float(text)
    assert parse_number(text) == value
    assert parse_thresholds(f"quality>={text}")[0].value == value
    assert parse_rules(f"vqa/0/accuracy>={text}")[0].threshold == value
    if value > 0:
        assert parse_weights(f"text={text}") == {"text": value}


@pytest.mark.parametrize("text", [text for text in NOT_NUMBERS if text == text.strip()])
def test_numbers_that_none_of_them_takes(text: str) -> None:
    for parse, condition in (
        (parse_thresholds, f"quality>={text}"),
        (parse_rules, f"vqa/0/accuracy>={text}"),
        (parse_weights, f"captions=1;text={text}"),
    ):
        with pytest.raises(ConfigurationError):
            parse(condition)


@pytest.mark.parametrize("text", [text for text in NOT_INTEGERS if text == text.strip() and text])
def test_shots_are_integers_wherever_they_are_given(text: str) -> None:
    settings = {name: getattr(Inputs(checkpoint="x"), name) for name in signature(eval_config).parameters}
    with pytest.raises(ConfigurationError, match="expected numbers of demonstrations after @"):
        parse_name(f"vqa@{text}")
    with pytest.raises(ConfigurationError, match="shots: expected numbers separated by spaces"):
        eval_config(**settings | {"shots": text})
    with pytest.raises(ConfigurationError, match="expected an integer"):
        parse_rules(f"vqa/{text}/accuracy>=0.5")


@pytest.mark.parametrize("value", ["inf", "nan", "-1"])
def test_a_bound_of_epochs_is_finite(value: str) -> None:
    with pytest.raises(ConfigurationError, match="max_epochs"):
        field_value(data_mix.Inputs, "max_epochs", value)


def test_an_engine_s_word_for_the_end_may_be_anything() -> None:
    assert status_of("[" * 100_000) == "[" * 100_000


def test_a_long_value_is_shortened_in_messages() -> None:
    assert quoted("x") == "'x'"
    assert len(quoted("x" * 5000)) < 130
