"""Every rule: kept by what the hooks make, and broken by one change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from hera.workflows import Workflow

from mm1.errors import ConfigurationError
from mm1_workflows import graph, policy, profiles
from mm1_workflows.findings import PolicyError
from mm1_workflows.graph import Document
from tests.support.toy_workflows import build, toy

DEFAULT = profiles.default()
WHEN = "{{tasks.a.outputs.parameters.text}} == yes"


def body(w: Workflow) -> None:
    first = toy("a", say=w.get_parameter("word"), count=w.get_parameter("count"))
    maybe = toy("b", say=first.get_parameter("text"), when=WHEN)
    loop = toy("c", say="{{item}}", with_param=first.get_parameter("items"))
    first >> maybe
    first >> loop


@pytest.fixture(scope="module")
def good() -> Document:
    return build(body, exit_task=True, word="x", count="3")


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
    ("P002", lambda d: pod(d)["inputs"].update(artifacts=[{"name": "x", "path": "/x"}])),
    ("P002", lambda d: pod(d)["retryStrategy"].update(expression="lastRetry.exitCode != 0")),
    ("P002", lambda d: d["spec"]["templates"].append({"name": "s", "suspend": {}})),
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
    ("P007", lambda d: task(d, "c").update(withParam=None, withItems=[{"x": 1}])),
    ("P008", lambda d: d["spec"].update(onExit="nobody")),
    ("P008", lambda d: part(d, "at-exit")["dag"]["tasks"].append(task(d, "a"))),
    ("P008", lambda d: part(d, "at-exit")["dag"]["tasks"][0].update(when=WHEN)),
    ("P009", lambda d: pod(d)["container"].pop("command")),
    ("P010", lambda d: None),
    ("P011", lambda d: pod(d).pop("activeDeadlineSeconds")),
    ("P011", lambda d: d["spec"].pop("activeDeadlineSeconds")),
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
]


def test_what_the_hooks_make_keeps_every_rule(good: Document) -> None:
    findings = policy.check(good, DEFAULT)
    assert [(finding.rule, finding.severity) for finding in findings] == [("P010", "warning")]


@pytest.mark.parametrize(("rule", "change"), BROKEN, ids=[f"{rule}-{number}" for number, (rule, _) in enumerate(BROKEN)])
def test_a_broken_rule_is_found_and_named(good: Document, rule: str, change: Change) -> None:
    document = copy.deepcopy(good)
    change(document)
    findings = policy.check(document, DEFAULT)
    assert rule in {finding.rule for finding in findings}, findings
    if rule < "P009":
        with pytest.raises(PolicyError, match=rule):
            graph.read(document)
    elif rule != "P010":
        assert {finding.rule for finding in findings if finding.severity == "error"} == {rule}


def test_every_rule_is_broken_by_a_test_and_explained() -> None:
    assert {rule.id for rule in policy.RULES} == {rule for rule, _ in BROKEN}
    for rule in policy.RULES:
        assert rule.title and rule.why and rule.remedy
        assert policy.rule(rule.id.lower()) is rule
    with pytest.raises(ConfigurationError, match="did you mean 'P001'"):
        policy.rule("P0001")


def test_a_site_must_pin_its_images(good: Document) -> None:
    site = DEFAULT.model_copy(update={"name": "site"})
    assert {finding.severity for finding in policy.check(good, site)} == {"error"}
    pinned = copy.deepcopy(good)
    pod(pinned)["container"]["image"] = "registry.example.org/mm1/cpu@sha256:" + "0" * 64
    assert policy.check(pinned, site) == []


def test_a_parameter_that_feeds_a_source_and_a_manifest_is_a_manifest() -> None:
    assert graph.common_type(["source", "manifest"]) == "manifest"
    assert graph.common_type([["a", "b"], ["a", "b"]]) == ["a", "b"]
    assert graph.common_type(["integer", "text"]) is None
