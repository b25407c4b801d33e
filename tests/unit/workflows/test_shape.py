"""Files that hold anything but an Argo object: commands report findings or a configuration error."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest

from mm1.errors import ConfigurationError
from mm1_workflows import steps
from mm1_workflows.argo.document import Document
from mm1_workflows.argo.graph import Graph
from mm1_workflows.argo.parameters import defaults_of
from mm1_workflows.argo.shape import check_shape, without_nulls
from mm1_workflows.authoring import profiles
from mm1_workflows.rules import policy
from mm1_workflows.rules.reading import read_workflow
from mm1_workflows.rules.values import value_complaints
from tests.support.toy_workflows import build, toy

VALUES = (None, 5, True, "²", "{{workflow.name}}", [], ["x"], {"a": 1})
Path = tuple[str | int, ...]


def body(w: Any) -> None:
    first = toy("a", say=w.get_parameter("word"), count="3")
    toy("b", say=first.get_parameter("text"), when="{{tasks.a.outputs.parameters.text}} == yes")
    toy("c", say="{{item}}", with_param=first.get_parameter("items"))
    steps.pretrain(data=w.get_parameter("word"), recipe="mm1_tiny")


def paths(node: Any, path: Path = ()) -> Iterator[Path]:
    """All places in data; of a list other than that of the templates the first two."""
    yield path
    if isinstance(node, list):
        node = dict(enumerate(node if path[-1] == "templates" else node[:2]))
    for key, below in node.items() if isinstance(node, dict) else ():
        yield from paths(below, (*path, key))


def put(document: Document, path: Path, value: Any) -> Any:
    if not path:
        return value
    document = copy.deepcopy(document)
    node: Any = document
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return document


def commands(document: Document) -> Graph:
    """What lint, run, compile and submit do with a document before they do anything else."""
    policy.check(document, profiles.default())
    graph = read_workflow(document)
    value_complaints(graph, defaults_of(graph), on_cluster=True)
    policy.check_before_sending(document, profiles.default())
    return graph


@pytest.fixture(scope="module")
def good() -> Document:
    document = build(body, exit_task=True, word="x")
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}, {"name": "key", "secret": {"secretName": "k"}}]
    pod = next(item for item in document["spec"]["templates"] if item["name"] == "step-toy")
    pod["volumes"] += volumes
    pod["container"]["volumeMounts"] = [{"name": "data", "mountPath": "/data"}]
    reference = {"secretKeyRef": {"name": "x", "key": "y"}}
    pod["container"]["env"] = [{"name": "A", "valueFrom": reference}, {"name": "B", "value": ""}]
    return document


@pytest.mark.parametrize("kind", ["Workflow", "CronWorkflow"])
def test_any_value_at_any_place_gets_an_answer(kind: str, good: Document) -> None:
    cron = {"schedules": ["0 3 * * 6"], "timezone": "Europe/Berlin", "suspend": True, "workflowSpec": good["spec"]}
    document = good if kind == "Workflow" else {**good, "kind": kind, "spec": cron}
    commands(document)
    places = [path for path in paths(document) if path and (len(path) < 3 or path[1] != "workflowSpec")]
    assert len(places) > (200 if kind == "Workflow" else 10)
    for path in places:
        for value in VALUES:
            try:
                commands(put(document, path, value))
            except ConfigurationError:
                continue
            except Exception as error:
                raise AssertionError(f"{path} = {value!r}") from error


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("spec",), 5, "spec: expected a map, got 5"),
        (("spec", "templates"), {}, "spec.templates: expected a list, got {}"),
        (("spec", "arguments", "parameters", 0), "x", "spec.arguments.parameters.0: expected a map, got 'x'"),
        (("spec", "arguments", "parameters", 0, "value"), [1], "expected text, a number, true or false, got"),
        (("metadata", "labels"), {"a": 5}, "metadata.labels.a: expected text, got 5"),
    ],
)
def test_a_field_is_named_with_what_it_should_be(path: Path, value: Any, complaint: str, good: Document) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_shape(put(good, path, value))
    assert complaint in str(caught.value)


def test_a_field_that_yaml_leaves_empty_is_not_there() -> None:
    assert without_nulls({"a": None, "b": [{"c": None}, {"d": 0}], "e": ""}) == {"b": [{}, {"d": 0}], "e": ""}
