"""Reading built workflows: random graphs come back as they were made, from Hera objects and from YAML."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from hera.workflows import Workflow
from hypothesis import given, settings
from hypothesis import strategies as st

from mm1.errors import ConfigurationError
from mm1_workflows.engines.yaml import to_yaml
from mm1_workflows.rules.reading import read_workflow
from tests.support.toy_workflows import build, toy

Edges = dict[int, set[int]]


@st.composite
def graphs(draw: st.DrawFn) -> Edges:
    """Task -> tasks before it, without circles."""
    size = draw(st.integers(1, 8))
    return {task: draw(st.sets(st.integers(0, task - 1))) if task else set() for task in range(size)}


@settings(max_examples=25, deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_random_graphs_come_back_as_they_were_made(edges: Edges, random: Any) -> None:
    def body(w: Workflow) -> None:
        order = list(edges)
        random.shuffle(order)
        tasks = {
            task: toy(f"t{task}", say=" ".join(f"{{{{tasks.t{other}.outputs.parameters.text}}}}" for other in edges[task]))
            for task in order
        }
        for task, before in edges.items():
            for other in before:
                tasks[other] >> tasks[task]

    document = build(body)
    read = read_workflow(document)
    assert {name: set(task.depends) for name, task in read.tasks.items()} == {
        f"t{task}": {f"t{other}" for other in before} for task, before in edges.items()
    }
    seen: set[str] = set()
    for name, task in read.tasks.items():
        assert set(task.depends) <= seen
        seen.add(name)
    assert read_workflow(yaml.safe_load(to_yaml(document))) == read


def test_a_fan_out_of_many_tasks_is_read_quickly() -> None:
    def body(w: Workflow) -> None:
        first = toy("first", say="x")
        for number in range(500):
            first >> toy(f"t{number}", say=first.get_parameter("text"))

    assert len(read_workflow(build(body)).tasks) == 501


@pytest.mark.parametrize(
    "document",
    [
        {"kind": "Workflow", "spec": {"entrypoint": "a", "templates": "a"}},
        {"kind": "Workflow", "spec": {"entrypoint": "a", "templates": [{"name": "a", "dag": {"tasks": ["b"]}}]}},
        {"kind": "Workflow"},
        {},
    ],
)
def test_what_is_no_workflow_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        read_workflow(document)
