"""Argo expressions: depends, durations, references."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1_workflows.argo.expressions import (
    is_duration,
    parse_depends,
    parse_duration,
    references,
    substitute,
    task_outputs,
)


@pytest.mark.parametrize(("text", "tasks"), [("", []), ("a", ["a"]), ("a && b-2&&c", ["a", "b-2", "c"])])
def test_depends_is_a_conjunction(text: str, tasks: list[str]) -> None:
    assert parse_depends(text) == tasks


@pytest.mark.parametrize(
    ("text", "fits"), [("90", True), (7, True), ("1h30m", True), ("1.5m", True), ("soon", False), ("²", False), ("1.5", False)]
)
def test_what_is_a_duration(text: str | int, fits: bool) -> None:
    assert is_duration(text) == fits


@pytest.mark.parametrize("text", ["a || b", "a.Failed", "(a && b)", "!a", "a &&"])
def test_other_depends_are_not_understood(text: str) -> None:
    assert parse_depends(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1h30m", 5400), ("50ms", 0.05), (None, 0), ("1.5m", 90), (7, 7)]
)
def test_durations(text: str | int | None, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text(), min_size=1))
def test_values_are_put_in_once_and_never_read_as_references(values: dict[str, str]) -> None:
    text = "".join(f"<{{{{{name}}}}}>" for name in values)
    assert references(text) == list(values)
    assert substitute(text, values.__getitem__) == "".join(f"<{value}>" for value in values.values())


def test_outputs_that_texts_refer_to() -> None:
    texts = ["{{tasks.a.outputs.parameters.x}} {{tasks.b.outputs.parameters.y}}", "{{workflow.name}}"]
    assert task_outputs(texts) == {("a", "x"), ("b", "y")}
