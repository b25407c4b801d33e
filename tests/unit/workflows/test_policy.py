"""Every rule: kept by what the hooks make and by changes near its border, broken by others.

The tables below hold one change of a good workflow a line; a rule without a line in both fails the test of the rules' list.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hera.workflows import DAG, Parameter, Workflow

from mm1.errors import ConfigurationError
from mm1_workflows.argo.document import Document
from mm1_workflows.argo.graph import common_type
from mm1_workflows.authoring import profiles, steps
from mm1_workflows.rules import policy
from mm1_workflows.rules.finding import PolicyError
from mm1_workflows.rules.reading import read_workflow
from tests.support.toy_workflows import build, toy

DEFAULT = profiles.default()
WHEN = "{{tasks.a.outputs.parameters.text}} == yes"


def body(w: Workflow) -> None:
    first = toy("a", say=w.get_parameter("word"), count=w.get_parameter("count"))
    toy("b", say=first.get_parameter("text"), when=WHEN)
    toy("c", say="{{item}}", with_param=first.get_parameter("items"))


@pytest.fixture(scope="module")
def good() -> Document:
    return build(body, exit_task=True, word="x", count="3")


@pytest.fixture(scope="module")
def training() -> Document:
    with Workflow(generate_name="train-", entrypoint="main", arguments=[Parameter(name="data")]) as w, DAG(name="main"):
        steps.pretrain(data=w.get_parameter("data"), recipe="mm1_tiny")
    document: Document = w.to_dict()
    return document


def part(document: Document, name: str) -> Any:
    return next(item for item in document["spec"]["templates"] if item["name"] == name)


def task(document: Document, name: str) -> Any:
    return next(item for item in part(document, "main")["dag"]["tasks"] if item["name"] == name)


def pod(document: Document) -> Any:
    return part(document, "step-toy")


def argument(document: Document, name: str, key: str, value: str) -> None:
    parameters = task(document, name)["arguments"]["parameters"]
    parameters[:] = [item for item in parameters if item["name"] != key] + [{"name": key, "value": value}]


Change = Callable[[Document], object]
BROKEN: list[tuple[str, Change]] = [
    ("P001", lambda d: d["spec"].update(entrypoint="nothing")),
    ("P001", lambda d: d["spec"].update(entrypoint="step-toy")),
    ("P001", lambda d: d.update(kind="Job")),
    ("P002", lambda d: task(d, "a").update(continueOn={"failed": True})),
    ("P002", lambda d: task(d, "b").update(dependencies=["a"])),
    ("P002", lambda d: task(d, "a").update(template="main")),
    ("P002", lambda d: pod(d).update(sidecars=[{"name": "x"}])),
    ("P002", lambda d: pod(d)["container"].update(lifecycle={})),
    ("P002", lambda d: pod(d).update(name="under_score")),
    ("P002", lambda d: pod(d)["outputs"]["parameters"][0].update(valueFrom={"expression": "1"})),
    ("P002", lambda d: pod(d)["outputs"]["parameters"][0]["valueFrom"].update(default="x")),
    ("P002", lambda d: pod(d)["inputs"].update(artifacts=[{"name": "x", "path": "/x"}])),
    ("P002", lambda d: pod(d)["retryStrategy"].update(expression="lastRetry.exitCode != 0")),
    ("P002", lambda d: d["spec"]["templates"].append({"name": "s", "suspend": {}})),
    ("P002", lambda d: pod(d).update(activeDeadlineSeconds="{{workflow.parameters.count}}")),
    ("P002", lambda d: pod(d)["retryStrategy"].update(limit="{{workflow.parameters.count}}")),
    ("P002", lambda d: pod(d)["retryStrategy"]["backoff"].update(factor="²")),
    ("P002", lambda d: pod(d)["retryStrategy"]["backoff"].update(duration="soon")),
    ("P002", lambda d: pod(d).update(podSpecPatch="{no json")),
    ("P002", lambda d: pod(d).update(podSpecPatch="terminationGracePeriodSeconds: long")),
    ("P003", lambda d: task(d, "b").update(depends="a || c")),
    ("P003", lambda d: task(d, "b").update(depends="a && nobody")),
    ("P003", lambda d: task(d, "a").update(depends="c")),
    ("P003", lambda d: task(d, "c").update(name="a")),
    ("P004", lambda d: task(d, "c").pop("depends")),
    ("P005", lambda d: argument(d, "a", "say", "{{workflow.parameters.wrod}}")),
    ("P005", lambda d: argument(d, "a", "say", "{{=1+1}}")),
    ("P005", lambda d: argument(d, "c", "say", "{{item}}{{tasks.a.outputs.parameters.nothing}}")),
    ("P005", lambda d: argument(d, "a", "wrong", "x")),
    ("P005", lambda d: pod(d)["container"]["args"].append("{{inputs.parameters.nothing}}")),
    ("P005", lambda d: pod(d)["container"]["args"].append("{{workflow.status}}")),
    ("P006", lambda d: task(d, "b").update(when="{{tasks.a.outputs.parameters.text}} > 1")),
    ("P006", lambda d: task(d, "c").update(depends="a && b")),
    ("P007", lambda d: argument(d, "a", "say", "{{item}}")),
    ("P007", lambda d: task(d, "c").update(withParam="[1, 2]")),
    ("P007", lambda d: task(d, "c").update(withItems=[{"x": 1}])),
    ("P008", lambda d: d["spec"].update(onExit="nobody")),
    ("P008", lambda d: part(d, "at-exit")["dag"]["tasks"].append(task(d, "a"))),
    ("P008", lambda d: part(d, "at-exit")["dag"]["tasks"][0].update(when=WHEN)),
    ("P009", lambda d: pod(d)["container"].pop("command")),
    ("P010", lambda d: None),
    ("P011", lambda d: pod(d).pop("activeDeadlineSeconds")),
    ("P012", lambda d: pod(d).pop("retryStrategy")),
    ("P012", lambda d: pod(d)["retryStrategy"].pop("limit")),
    ("P012", lambda d: pod(d)["retryStrategy"].update(expression="asInt(lastRetry.exitCode) in [80, 84]")),
    ("P013", lambda d: pod(d)["container"]["securityContext"].update(allowPrivilegeEscalation=True)),
    ("P013", lambda d: pod(d)["container"]["securityContext"].pop("capabilities")),
    ("P013", lambda d: d["spec"].pop("securityContext")),
    ("P014", lambda d: pod(d)["container"].update(env=[{"name": "HF_TOKEN", "value": "abc"}])),
    ("P014", lambda d: pod(d)["container"]["args"].append("--password=abc")),
    ("P014", lambda d: d["spec"]["arguments"]["parameters"][0].update(value="https://me:pass@example.org")),
    ("P015", lambda d: pod(d)["container"]["resources"]["limits"].pop("memory")),
    ("P015", lambda d: pod(d)["container"]["resources"]["limits"].update({"nvidia.com/gpu": "1"})),
    ("P016", lambda d: pod(d).pop("podSpecPatch")),
    ("P016", lambda d: pod(d).update(podSpecPatch='{"terminationGracePeriodSeconds": 10}')),
    ("P017", lambda d: argument(d, "b", "then", "{{workflow.parameters.count}}")),
    ("P018", lambda d: pod(d)["retryStrategy"]["backoff"].update(maxDuration="1h")),
    ("P019", lambda d: pod(d)["container"]["args"].append("--launcher={no json")),
    ("P020", lambda d: d["metadata"].update(generateName="Toy-")),
    ("P020", lambda d: d["metadata"].update(generateName="x" * 59)),
    ("P020", lambda d: d["metadata"].update(name="x" * 64)),
    ("P020", lambda d: d["metadata"].pop("generateName")),
    ("P020", lambda d: d["metadata"].update(namespace="Bad_NS")),
    ("P020", lambda d: d["metadata"]["labels"].update({"bad label!": "x"})),
    ("P020", lambda d: d["metadata"]["labels"].update({"team": "bad label!"})),
    ("P020", lambda d: pod(d)["metadata"]["labels"].update({"team": "bad label!"})),
    ("P020", lambda d: d["spec"].update(serviceAccountName="Bad_SA")),
    ("P020", lambda d: pod(d).update(serviceAccountName="Bad_SA")),
    ("P020", lambda d: d["spec"]["arguments"]["parameters"].append({"name": "my param", "value": "1"})),
    ("P020", lambda d: d["spec"]["arguments"]["parameters"].append({"name": "a.b", "value": "1"})),
    ("P020", lambda d: d["spec"]["arguments"]["parameters"].append({"name": "word", "value": "1"})),
    ("P020", lambda d: pod(d)["inputs"]["parameters"].append({"name": "my input", "value": "1"})),
    (
        "P020",
        lambda d: [item.update(template="Step-Toy") for item in [*tasks(d), *tasks(d, "at-exit")]] and rename(d, "Step-Toy"),
    ),
    ("P021", lambda d: scheduled(d, schedule="61 * * * *")),
    ("P021", lambda d: scheduled(d, schedules=["0 3 * * 6"], timezone="Mars/Base")),
]


def tasks(document: Document, dag: str = "main") -> Any:
    return part(document, dag)["dag"]["tasks"]


def rename(document: Document, name: str) -> None:
    pod(document).update(name=name)
    for item in [*tasks(document), *tasks(document, "at-exit")]:
        item.update(template=name)


def scheduled(document: Document, **fields: Any) -> None:
    document.update(kind="CronWorkflow", spec={**fields, "workflowSpec": document["spec"]})


def launch(**values: Any) -> Change:
    """Change of the JSON with which a template starts its ranks; None takes a field away."""

    def change(document: Document) -> None:
        words = part(document, "step-pretrain")["container"]["args"]
        (place,) = (number for number, word in enumerate(words) if word.startswith("--launcher="))
        launcher = json.loads(words[place].removeprefix("--launcher=")) | values
        words[place] = "--launcher=" + json.dumps({name: value for name, value in launcher.items() if value is not None})

    return change


DIGEST = "registry.example.org/mm1/trainer@sha256:" + "0" * 64
BROKEN_TRAINING: list[tuple[str, Change]] = [
    ("P014", launch(environment={"HF_TOKEN": "abc"})),
    ("P014", launch(environment={"MIRROR": "https://me:pass@example.org"})),
    ("P016", launch(grace_s=299)),
    ("P016", lambda d: part(d, "step-pretrain").update(podSpecPatch='{"terminationGracePeriodSeconds": 59}')),
    ("P019", launch(grace_s="long")),
    ("P019", launch(pool="nowhere")),
    ("P019", launch(grace=600)),
    ("P019", launch(images={})),
    ("P022", lambda d: argument(d, "pretrain", "recipe", "mm1_tny")),
    ("P022", lambda d: argument(d, "pretrain", "nodes", "0")),
]
KEPT: list[tuple[str, Change]] = [
    ("P001", lambda d: d.update(kind="WorkflowTemplate")),
    ("P002", lambda d: pod(d).update(serviceAccountName="other", priorityClassName="low")),
    ("P002", lambda d: pod(d).update(activeDeadlineSeconds="60", podSpecPatch="terminationGracePeriodSeconds: 60")),
    ("P002", lambda d: pod(d)["retryStrategy"].update(limit="3", backoff={"duration": "90", "factor": "2", "cap": "1h30m"})),
    ("P003", lambda d: task(d, "c").update(depends="a  &&  b", when=WHEN)),
    ("P004", lambda d: task(d, "c").update(depends="b && a", when=WHEN)),
    ("P005", lambda d: argument(d, "a", "say", "{{ workflow.parameters.word }} of {{workflow.name}}")),
    ("P006", lambda d: task(d, "c").update(depends="a && b", when=WHEN.replace("yes", "'yes'"))),
    ("P007", lambda d: task(d, "c").update(withItems=["1", "2"])),
    ("P008", lambda d: part(d, "at-exit")["dag"]["tasks"][0].update(name="other-name")),
    ("P009", lambda d: pod(d)["container"].update(command=["/opt/mm1/bin/python", "-m"])),
    ("P010", lambda d: pod(d)["container"].update(image=DIGEST)),
    ("P010", lambda d: pod(d)["container"].update(image=DIGEST.replace("@", ":1.0@"))),
    ("P011", lambda d: pod(d).update(activeDeadlineSeconds=1)),
    ("P012", lambda d: pod(d)["retryStrategy"].update(limit=0, expression="asInt(lastRetry.exitCode) in [84, 85, 87]")),
    ("P013", lambda d: pod(d)["container"]["securityContext"].update(seccompProfile={"type": "Localhost"})),
    ("P014", lambda d: pod(d)["container"].update(env=[{"name": "TOKENIZERS_PARALLELISM", "value": "false"}])),
    ("P014", lambda d: pod(d)["container"].update(env=[{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": SECRET_KEY}}])),
    ("P014", lambda d: pod(d)["container"]["args"].append("--environment-secret-name=mm1-store")),
    ("P015", lambda d: pod(d)["container"]["resources"]["requests"].update(cpu="100m")),
    ("P015", lambda d: [pod(d)["container"]["resources"][side].update({"nvidia.com/gpu": "1"}) for side in SIDES]),
    ("P016", lambda d: pod(d).update(podSpecPatch='{"terminationGracePeriodSeconds": 60.0}')),
    ("P017", lambda d: argument(d, "b", "count", "{{workflow.parameters.count}}")),
    ("P018", lambda d: pod(d)["retryStrategy"]["backoff"].update(cap="10m")),
    ("P020", lambda d: d["metadata"].update(generateName="x" * 58)),
    ("P020", lambda d: d["metadata"].update(name="x" * 63)),
    ("P020", lambda d: d["metadata"].update(namespace="team-a", labels={"example.org/team": "A_1.b", "empty": ""})),
    ("P020", lambda d: pod(d)["metadata"]["labels"].update(word="{{inputs.parameters.say}}")),
    ("P020", lambda d: pod(d).update(serviceAccountName="mm1.step-1")),
    ("P020", lambda d: d["spec"]["arguments"]["parameters"].append({"name": "Under_score-1", "value": "1"})),
    ("P021", lambda d: scheduled(d, schedules=["0 3 * * SAT"], timezone="Europe/Berlin", concurrencyPolicy="Forbid")),
]
SIDES = ("requests", "limits")
SECRET_KEY = {"name": "store", "key": "TOKEN"}
KEPT_TRAINING: list[tuple[str, Change]] = [
    ("P010", launch(images={"cpu": DIGEST, "trainer": DIGEST})),
    ("P014", launch(environment={"NCCL_DEBUG": "INFO"})),
    ("P016", launch(grace_s=300)),
    ("P019", launch(grace_s=None)),
    ("P022", lambda d: argument(d, "pretrain", "recipe", "mm1_tiny_moe")),
]


def test_a_name_is_counted_as_it_is_written(good: Document) -> None:
    document = changed(good, lambda d: d["metadata"].update(generateName="x" * 59))
    (finding,) = [found for found in policy.check(document, DEFAULT) if found.rule == "P020"]
    assert "expected at most 58 characters, got 59" in finding.message


def names(table: list[tuple[str, Change]]) -> list[str]:
    return [f"{rule}-{number}" for number, (rule, _) in enumerate(table)]


def changed(document: Document, change: Change) -> Document:
    document = copy.deepcopy(document)
    change(document)
    return document


def errors(document: Document) -> set[str]:
    return {finding.rule for finding in policy.check(document, DEFAULT) if finding.severity == "error"}


def test_what_the_hooks_make_keeps_every_rule(good: Document, training: Document) -> None:
    for document in (good, training):
        assert {(finding.rule, finding.severity) for finding in policy.check(document, DEFAULT)} == {("P010", "warning")}


@pytest.mark.parametrize(("rule", "change"), KEPT, ids=names(KEPT))
def test_a_change_that_keeps_a_rule_is_let_through(good: Document, rule: str, change: Change) -> None:
    document = changed(good, change)
    assert document != good
    wanted = {"P010"} - {rule}
    assert {finding.rule for finding in policy.check(document, DEFAULT)} == wanted
    assert errors(document) == set()


@pytest.mark.parametrize(("rule", "change"), BROKEN, ids=names(BROKEN))
def test_a_broken_rule_is_found_and_named(good: Document, rule: str, change: Change) -> None:
    document = changed(good, change)
    findings = policy.check(document, DEFAULT)
    assert rule in {finding.rule for finding in findings}, findings
    if rule < "P009":
        with pytest.raises(PolicyError, match=rule):
            read_workflow(document)
    elif rule != "P010":
        assert errors(document) == {rule}


@pytest.mark.parametrize(("rule", "change"), BROKEN_TRAINING, ids=names(BROKEN_TRAINING))
def test_a_rule_that_ranks_break_is_found(training: Document, rule: str, change: Change) -> None:
    document = changed(training, change)
    assert errors(document) == {rule}
    assert {found.where for found in policy.check(document, DEFAULT) if found.rule == rule} <= {
        "template step-pretrain",
        "template step-pretrain (ranks)",
        "task pretrain",
    }


@pytest.mark.parametrize(("rule", "change"), KEPT_TRAINING, ids=names(KEPT_TRAINING))
def test_a_change_of_the_ranks_that_keeps_a_rule_is_let_through(training: Document, rule: str, change: Change) -> None:
    document = changed(training, change)
    assert document != training
    assert errors(document) == set()
    ranks = [finding for finding in policy.check(document, DEFAULT) if finding.where.endswith("(ranks)")]
    assert [finding.rule for finding in ranks] == ([] if rule == "P010" else ["P010"])


def test_every_rule_is_kept_and_broken_by_a_test_and_explained() -> None:
    rules = {rule.id for rule in policy.RULES}
    assert {rule for rule, _ in BROKEN + BROKEN_TRAINING} == rules
    assert {rule for rule, _ in KEPT + KEPT_TRAINING} == rules
    for rule in policy.RULES:
        assert rule.title and rule.why and rule.remedy
        assert policy.rule(rule.id.lower()) is rule
    with pytest.raises(ConfigurationError, match="did you mean 'P001'"):
        policy.rule("P0001")


def test_a_site_must_pin_its_images(good: Document) -> None:
    site = DEFAULT.model_copy(update={"name": "site"})
    assert {finding.severity for finding in policy.check(good, site)} == {"error"}
    pinned = changed(good, lambda d: pod(d)["container"].update(image=DIGEST))
    assert policy.check(pinned, site) == []


def test_a_local_image_is_a_warning_even_at_a_site(good: Document) -> None:
    site = DEFAULT.model_copy(update={"name": "site"})
    local = changed(good, lambda d: pod(d)["container"].update(image="localhost/mm1-thin:test"))
    assert [(found.rule, found.severity) for found in policy.check(local, site)] == [("P010", "warning")]


def test_a_pool_that_may_burst_needs_no_limit_of_cores_but_one_of_memory(good: Document) -> None:
    label = pod(good)["metadata"]["labels"]["mm1.dev/pool"]
    burst = DEFAULT.pool(label).model_copy(update={"burst": True})
    site = DEFAULT.model_copy(update={"pools": {**DEFAULT.pools, label: burst}})
    document = changed(good, lambda d: pod(d)["container"]["resources"]["limits"].pop("cpu"))
    assert {found.rule for found in policy.check(document, site)} == {"P010"}
    pod(document)["container"]["resources"]["limits"].pop("memory")
    assert "P015" in {found.rule for found in policy.check(document, site)}


def test_a_parameter_that_feeds_a_source_and_a_manifest_is_a_manifest() -> None:
    assert common_type(["source", "manifest"]) == "manifest"
    assert common_type([["a", "b"], ["a", "b"]]) == ["a", "b"]
    assert common_type(["integer", "text"]) is None
