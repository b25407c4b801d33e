"""Both engines' files say the same, for the workflow files and for random graphs; and the comparison sees what differs."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mm1.errors import ConfigurationError
from mm1_workflows.argo.document import Document
from mm1_workflows.argo.expressions import substitute
from mm1_workflows.argo.graph import TaskNode
from mm1_workflows.authoring.load import load
from mm1_workflows.engines import yaml as compiler
from mm1_workflows.engines.kubeflow import parity, read_argo, read_ir, translate
from mm1_workflows.engines.kubeflow.facts import plain_name, plain_value
from mm1_workflows.rules.reading import read_workflow
from tests.support.random_graphs import WorkflowPlan, build, plans

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted((ROOT / "workflows").glob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda path: path.stem)
def test_the_committed_pipelines_say_what_the_workflows_say(file: Path) -> None:
    pipeline = (ROOT / f"workflows/compiled/kubeflow/{file.stem}.yaml").read_text()
    assert parity.differences(load(str(file)).document, pipeline) == []


def test_another_profile_is_said_alike() -> None:
    document = load(str(ROOT / "workflows/pretrain.py"), "test").document
    pipeline = translate.to_yaml(document)
    assert parity.differences(document, pipeline) == []
    mounts = {mount for step in read_ir.read(pipeline).steps.values() for mount in step.mounts}
    assert ("/opt/deps", "claim", "deps", "") in mounts


@settings(max_examples=12, deadline=None)
@given(plans(max_tasks=6))
def test_random_graphs_are_said_alike(plan: WorkflowPlan) -> None:
    document = build(plan)
    assert parity.differences(document, translate.to_yaml(document)) == []


@settings(max_examples=40, deadline=None)
@given(plans(), st.randoms(use_true_random=False))
def test_the_local_runner_s_graph_is_the_one_that_argo_sees(plan: WorkflowPlan, random: Any) -> None:
    document = build(plan)
    mine, theirs = read_workflow(document), read_argo.read(document)
    tasks = {**mine.tasks, **({mine.on_exit.name: mine.on_exit} if mine.on_exit else {})}
    assert set(tasks) == set(theirs.steps) == {task.name for task in plan.tasks} | ({"finish"} if plan.exit_task else set())
    for name, task in tasks.items():
        step = theirs.steps[name]
        assert _argv(task) == step.argv
        assert (_condition(task), _spelled(task.loop or "")) == (step.condition, step.loop)
        assert (task.template.retry.limit, task.template.timeout_s) == (step.retry[0] if step.retry else 0, step.timeout_s)
        assert step.at_exit == (name == "finish")
    # whichever way the runner goes, the tasks that it may start are those that Argo may start
    edges = {task.name: set(task.before) for task in plan.tasks}
    done: set[str] = set()
    while len(done) < len(edges):
        ready = [name for name, task in mine.tasks.items() if name not in done and set(task.depends) <= done]
        assert set(ready) == {name for name, before in edges.items() if name not in done and before <= done}
        done.add(random.choice(ready))


def _argv(task: TaskNode) -> tuple[str, ...]:
    """What the runner would start, with references spelled as the facts spell them."""
    given = {f"inputs.parameters.{name}": task.arguments.get(name, default) for name, default in task.template.inputs.items()}
    argv = [substitute(word, lambda name: given.get(name, f"{{{{{name}}}}}") or "") for word in task.template.argv]
    for name, path in [*task.template.outputs.items(), *task.template.artifacts.items()]:
        argv = [word.replace(path, f"<output {plain_name(name)}>") for word in argv]
    return tuple(_spelled(word) for word in argv)


def _condition(task: TaskNode) -> str:
    when = task.when
    return f"<{when.task}.{when.output}> {when.operator} {when.literal}" if when else ""


def _spelled(text: str) -> str:
    text = re.sub(r"\{\{workflow\.parameters\.([^}]+)\}\}", r"<param \1>", text)
    text = re.sub(r"\{\{tasks\.([^}.]+)\.outputs\.parameters\.([^}]+)\}\}", r"<\1.\2>", text)
    text = text.replace("{{item}}", "<item>").replace("{{workflow.name}}", "<run>")
    return text.replace("{{workflow.status}}", "<status>")


def _first(document: Document, template: str) -> dict[str, Any]:
    return next(body for body in document["spec"]["templates"] if body["name"] == template)


def _gate(document: Document) -> dict[str, Any]:
    return next(raw for raw in _first(document, "evaluate")["dag"]["tasks"] if raw["name"] == "gate")


CHANGES: dict[str, Callable[[Document], Any]] = {
    "gate.retry": lambda d: _first(d, "step-gate")["retryStrategy"].update(limit=9),
    "gate.timeout_s": lambda d: _first(d, "step-gate").update(activeDeadlineSeconds=1),
    "gate.image": lambda d: _first(d, "step-gate")["container"].update(image="other"),
    "gate.argv": lambda d: _first(d, "step-gate")["container"]["args"].append("--more"),
    "gate.before": lambda d: _gate(d).pop("depends"),
    "gate.condition": lambda d: _gate(d).update(when="{{tasks.evaluate.outputs.parameters.manifest}} == x"),
    "gate.loop": lambda d: _gate(d).update(withItems=["a"]),
    "gate.labels": lambda d: _first(d, "step-gate")["metadata"]["labels"].update(more="x"),
    "gate.resources": lambda d: _first(d, "step-gate")["container"]["resources"]["limits"].update(memory="1Gi"),
    "gate.mounts": lambda d: _first(d, "step-gate")["container"]["volumeMounts"].pop(),
    "gate.secrets": lambda d: _first(d, "step-gate")["container"].pop("envFrom"),
    "gate.environment": lambda d: _first(d, "step-gate")["container"].update(env=[{"name": "A", "value": "b"}]),
    "evaluate.tolerations": lambda d: _first(d, "step-evaluate")["tolerations"].pop(),
    "evaluate.selector": lambda d: _first(d, "step-evaluate").pop("nodeSelector"),
    "report.at_exit": lambda d: d["spec"].update(onExit="step-report"),
    "parameters": lambda d: d["spec"]["arguments"]["parameters"].pop(),
    "deadline_s": lambda d: d["spec"].update(activeDeadlineSeconds=5),
    "name": lambda d: d["metadata"].update(generateName="other-"),
}


@pytest.mark.parametrize("field", CHANGES)
def test_a_difference_is_seen(field: str) -> None:
    document = load(str(ROOT / "workflows/evaluate_model.py")).document
    pipeline = (ROOT / "workflows/compiled/kubeflow/evaluate_model.yaml").read_text()
    changed = copy.deepcopy(document)
    CHANGES[field](changed)
    found = parity.differences(changed, pipeline)
    wanted = "steps" if field == "report.at_exit" else field  # an exit template that is named directly gives the task its name
    assert [line for line in found if line.startswith(f"{wanted}:")], found


def test_what_is_not_the_same_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(translate, "to_yaml", lambda document: (ROOT / "workflows/compiled/kubeflow/sft.yaml").read_text())
    with pytest.raises(ConfigurationError, match="would differ"):
        compiler.compiled(str(ROOT / "workflows/deploy.py"), engine="kubeflow")


def test_values_of_parameters_are_compared_whatever_their_type() -> None:
    assert plain_value("4") == plain_value(4.0) == plain_value("4.0")
    assert plain_value(True) == plain_value("true") and plain_value("4x") != plain_value("4")
    assert plain_value('["a","b"]') == plain_value(["a", "b"]) == json.dumps(["a", "b"])
