"""The subset of Argo that Hera, the local runner and the other engines all support; anything else is rejected by name.

Rules P001 to P008 (explained in :mod:`mm1_workflows.rules.policy`): one DAG of container templates, ``depends`` as a plain
conjunction, an edge for each reference, ``when`` comparing one output with a literal, loops over a JSON list of strings, and
one exit task that only gets the status. The checks work on plain data, so they are the same for YAML and built Hera objects.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from typing import Any

from mm1.config.resolve import read_value
from mm1.errors import ConfigurationError
from mm1_workflows.argo.conditions import parse_condition
from mm1_workflows.argo.document import (
    Document,
    arguments_of,
    exit_template_name,
    grace_of,
    inputs_of,
    loop_of,
    parameters_of,
    spec_of,
)
from mm1_workflows.argo.expressions import (
    TASK_OUTPUT,
    is_duration,
    is_number,
    parse_depends,
    references,
    task_outputs,
)
from mm1_workflows.argo.retries import POLICIES, evaluate
from mm1_workflows.argo.shape import check_shape
from mm1_workflows.rules.finding import Finding

KINDS = ("Workflow", "WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow")
_POD = {"affinity", "automountServiceAccountToken", "nodeSelector", "podSpecPatch", "priorityClassName", "schedulerName",
        "securityContext", "serviceAccountName", "tolerations", "volumes"}  # fmt: skip
SPEC_FIELDS = _POD | {"activeDeadlineSeconds", "archiveLogs", "arguments", "entrypoint", "imagePullSecrets", "onExit",
                      "parallelism", "podGC", "podMetadata", "priority", "templates", "ttlStrategy",
                      "workflowMetadata"}  # fmt: skip
TEMPLATE_FIELDS = _POD | {"activeDeadlineSeconds", "container", "dag", "inputs", "metadata", "name", "outputs", "retryStrategy"}
CONTAINER_FIELDS = {"args", "command", "env", "envFrom", "image", "imagePullPolicy", "name", "ports", "resources",
                    "securityContext", "terminationMessagePath", "terminationMessagePolicy", "volumeMounts"}  # fmt: skip
TASK_FIELDS = {"arguments", "depends", "name", "template", "when", "withItems", "withParam"}
RETRY_FIELDS = {"backoff", "expression", "limit", "retryPolicy"}
BACKOFF_FIELDS = {"cap", "duration", "factor", "maxDuration"}
NAME = re.compile(r"^[A-Za-z0-9][-A-Za-z0-9]*$")
GLOBALS = ("workflow.name",)


def check(document: Document) -> list[Finding]:
    """Return all violations of the subset's rules, in the order of the document.

    Raises:
        ConfigurationError: it is not a well-formed Argo object.
    """
    check_shape(document)
    if document.get("kind") not in KINDS:
        return [Finding("P001", "kind", f"expected one of {', '.join(KINDS)}, got {document.get('kind')!r}")]
    spec = spec_of(document)
    bodies = {body.get("name", "?"): body for body in spec.get("templates") or []}
    if findings := [*_structure(spec, bodies)]:
        return findings
    entry = bodies[spec["entrypoint"]]["dag"]["tasks"]
    parameters = {raw["name"] for raw in parameters_of(spec)}
    known = {f"workflow.parameters.{name}" for name in parameters} | set(GLOBALS)
    findings = [*_dag(entry, bodies, known), *_exit(spec, bodies, known)]
    exit_only = exit_template_name(spec, bodies)
    exit_only = "" if exit_only in {raw.get("template") for raw in entry} else exit_only
    for body in bodies.values():
        if "container" in body:
            # a template that is also used by other tasks has no status while these run
            at_exit = body["name"] == exit_only
            findings += _container(body, known | ({"workflow.status"} if at_exit else set()))
            findings += _mounts(body, spec.get("volumes") or [])
    return findings


# -- structure --------------------------------------------------------------------------------------------------------


def _structure(spec: dict[str, Any], bodies: dict[str, Any]) -> Iterator[Finding]:
    yield from _unknown(spec, SPEC_FIELDS, "spec")
    entry = spec.get("entrypoint")
    if entry not in bodies:
        yield Finding("P001", "entrypoint", f"there is no template {entry!r}; templates: {', '.join(bodies) or 'none'}")
    elif "dag" not in bodies[entry]:
        yield Finding("P001", "entrypoint", f"expected a DAG, got template {entry!r}: wrap it in a DAG")
    if spec.get("onExit") and spec["onExit"] not in bodies:
        yield Finding("P008", "onExit", f"there is no template {spec['onExit']!r}")
    for name, body in bodies.items():
        yield from _unknown(body, TEMPLATE_FIELDS | ({"failFast"} if "dag" in body else set()), f"template {name}")
        if not NAME.match(name):
            yield Finding("P002", f"template {name}", "expected a name of letters, digits and dashes")
        if ("container" in body) == ("dag" in body):
            yield Finding("P002", f"template {name}", "expected either a container or a DAG")
        elif "dag" in body:
            yield from _dag_body(name, body, name in (entry, spec.get("onExit")))
        else:
            yield from _unknown(body["container"], CONTAINER_FIELDS, f"template {name}.container")
            yield from _io(name, body)
            if body.get("retryStrategy") is not None:
                yield from _retry(f"template {name}.retryStrategy", body["retryStrategy"])
            yield from _numbers(name, body)


def _dag_body(name: str, body: dict[str, Any], used: bool) -> Iterator[Finding]:
    if not used:
        yield Finding("P002", f"template {name}", "only the entrypoint and the exit handler may be a DAG")
    yield from _unknown(body["dag"], {"tasks", "failFast"}, f"template {name}.dag")
    if body.get("failFast") not in (None, body["dag"].get("failFast")):
        yield Finding("P002", f"template {name}.failFast", "differs from that of its DAG: set dag.failFast only")
    if body.get("inputs"):
        yield Finding("P002", f"template {name}", "a DAG cannot have inputs: use parameters of the workflow")
    if not body["dag"].get("tasks"):
        yield Finding("P001", f"template {name}", "the DAG has no tasks")
    for raw in body["dag"].get("tasks") or []:
        yield from _unknown(raw, TASK_FIELDS, f"task {raw.get('name')}")
        if not NAME.match(raw.get("name", "")):
            yield Finding("P002", f"task {raw.get('name')}", "expected a name of letters, digits and dashes")


def _io(name: str, body: dict[str, Any]) -> Iterator[Finding]:
    inputs, outputs = body.get("inputs") or {}, body.get("outputs") or {}
    if inputs.get("artifacts"):
        yield Finding("P002", f"template {name}", "has input artifacts: pass the address of a manifest instead")
    if outputs.get("result") or outputs.get("exitCode"):
        yield Finding(
            "P002", f"template {name}", "outputs other than parameters read from files are not supported by all engines"
        )
    for raw in outputs.get("parameters") or []:
        source = set(raw.get("valueFrom") or {})
        if "path" not in source:
            yield Finding("P002", f"template {name}", f"output {raw.get('name')} is not read from a file (valueFrom.path)")
        elif more := sorted(source - {"path"}):
            text = (
                f"output {raw.get('name')} has valueFrom.{more[0]}, which other engines do not support: always write the file"
            )
            yield Finding("P002", f"template {name}", text)


def _retry(where: str, strategy: dict[str, Any]) -> Iterator[Finding]:
    yield from _unknown(strategy, RETRY_FIELDS, where)
    backoff = strategy.get("backoff")
    yield from _unknown(backoff or {}, BACKOFF_FIELDS, f"{where}.backoff")
    if backoff is not None and not backoff.get("duration"):
        yield Finding("P002", f"{where}.backoff", "has no duration: Argo then fails the task instead of retrying it")
    policy = strategy.get("retryPolicy") or POLICIES[0]
    if policy not in POLICIES:
        yield Finding("P002", f"{where}.retryPolicy", f"expected one of {', '.join(POLICIES)}, got {policy!r}")
    if strategy.get("expression"):
        try:
            evaluate(strategy["expression"], 1)
        except ConfigurationError as error:
            yield Finding("P002", f"{where}.expression", str(error))


def _numbers(name: str, body: dict[str, Any]) -> Iterator[Finding]:
    """Check fields that may be references to numbers in Argo, but must be numbers in other engines."""
    strategy = body.get("retryStrategy") or {}
    backoff = strategy.get("backoff") or {}
    for field, value in {
        "activeDeadlineSeconds": body.get("activeDeadlineSeconds", 0),
        "retryStrategy.limit": strategy.get("limit", 0),
        "retryStrategy.backoff.factor": backoff.get("factor", 0),
    }.items():
        if not is_number(value):
            yield Finding("P002", f"template {name}.{field}", f"expected an integer, got {value!r}")
    for field in ("duration", "cap", "maxDuration"):
        if not is_duration(value := backoff.get(field) or 0):
            yield Finding(
                "P002",
                f"template {name}.retryStrategy.backoff.{field}",
                f"expected a duration such as 90, 90s or 1h30m, got {value!r}",
            )
    try:
        grace_of(body)
    except ConfigurationError as error:
        yield Finding("P002", f"template {name}.podSpecPatch", str(error))


def _unknown(body: dict[str, Any], fields: set[str], where: str) -> Iterator[Finding]:
    for key in body:
        if key not in fields:
            hint = " (use depends: a && b)" if key == "dependencies" else ""
            yield Finding("P002", f"{where}.{key}", f"not supported by all engines{hint}")


# -- the graph --------------------------------------------------------------------------------------------------------


def _dag(tasks: list[dict[str, Any]], bodies: dict[str, Any], known: set[str]) -> Iterator[Finding]:
    by_name = {raw["name"]: raw for raw in tasks}
    if len(by_name) < len(tasks):
        yield Finding("P003", "tasks", "two tasks have the same name")
    edges = {name: parse_depends(raw.get("depends") or "") for name, raw in by_name.items()}
    for name, raw in by_name.items():
        before = edges[name]
        if before is None:
            yield Finding("P003", f"task {name}", f"depends: expected a plain conjunction (a && b), got {raw['depends']!r}")
            continue
        yield from (
            Finding("P003", f"task {name}", f"depends on {other!r}, which does not exist")
            for other in before
            if other not in by_name
        )
        yield from _arguments(raw, bodies, known, "task")
        yield from _edges(raw, set(before), by_name, bodies)
        yield from _when(raw, before, by_name)
        yield from _loop(raw, known)
    yield from _cycles({name: before or [] for name, before in edges.items()})


def _arguments(raw: dict[str, Any], bodies: dict[str, Any], known: set[str], what: str) -> Iterator[Finding]:
    where, template = f"{what} {raw['name']}", bodies.get(raw.get("template", ""))
    if template is None or "container" not in template:
        yield Finding("P002", where, f"{raw.get('template')!r} is not a container template")
        return
    if (raw.get("arguments") or {}).get("artifacts"):
        yield Finding("P002", where, "has artifacts as arguments: pass the address of a manifest instead")
    given, declared = arguments_of(raw), {item["name"]: item for item in inputs_of(template)}
    for name in given.keys() - declared.keys():
        yield Finding("P005", where, f"template {template['name']} has no input {name!r}")
    for name, item in declared.items():
        if name not in given and item.get("value", item.get("default")) is None:
            yield Finding("P005", where, f"input {name!r} has no value")
    for name, value in given.items():
        for reference in references(value):
            if not TASK_OUTPUT.match(reference) and reference != "item" and reference not in known:
                yield Finding("P005", f"{where}.{name}", f"{{{{{reference}}}}} does not exist")


def _edges(raw: dict[str, Any], before: set[str], by_name: dict[str, Any], bodies: dict[str, Any]) -> Iterator[Finding]:
    texts = [*arguments_of(raw).values(), raw.get("when") or "", loop_of(raw) or ""]
    for other, output in sorted(task_outputs(texts)):
        where = f"task {raw['name']}"
        if other not in by_name:
            yield Finding("P005", where, f"refers to task {other!r}, which does not exist")
            continue
        if other not in before:
            yield Finding("P004", where, f"refers to an output of {other!r}: add {other!r} to its depends")
        template = bodies.get(by_name[other].get("template", "")) or {}
        if output not in {item["name"] for item in (template.get("outputs") or {}).get("parameters") or []}:
            yield Finding("P005", where, f"task {other!r} has no output {output!r}")


def _when(raw: dict[str, Any], before: list[str], by_name: dict[str, Any]) -> Iterator[Finding]:
    where, text = f"task {raw['name']}", raw.get("when")
    condition = parse_condition(text) if text else None
    if text and not condition:
        yield Finding("P006", where, f"when: expected one output compared (== or !=) with a literal, got {text!r}")
    elif condition and (problem := condition.problem()):
        yield Finding("P006", where, f"when: {problem}")
    elif condition and by_name.get(condition.task, {}).get("when"):
        yield Finding("P006", where, f"when refers to an output of {condition.task!r}, which is conditional itself")
    for other in before:
        other_when = by_name.get(other, {}).get("when")
        if other_when and parse_condition(other_when) != condition:
            yield Finding("P006", where, f"depends on the conditional task {other!r} and must have the same when: {other_when}")


def _loop(raw: dict[str, Any], known: set[str]) -> Iterator[Finding]:
    where, text = f"task {raw['name']}", loop_of(raw)
    uses_item = any("item" in references(value) for value in arguments_of(raw).values())
    if text is None:
        if uses_item:
            yield Finding("P007", where, "uses {{item}} outside a loop")
        return
    if raw.get("withItems") is not None and not all(isinstance(item, str) for item in raw["withItems"]):
        yield Finding("P007", where, "withItems: expected a list of strings")
    for reference in references(text):
        if not TASK_OUTPUT.match(reference) and reference not in known:
            yield Finding("P005", where, f"loops over {{{{{reference}}}}}, which does not exist")
    if not references(text) and not is_string_list(text):
        yield Finding("P007", where, f"withParam: expected a JSON list of strings or a reference, got {text!r}")


def is_string_list(text: str) -> bool:
    """Whether a text is a JSON list of strings."""
    value = read_value(text)
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _cycles(edges: dict[str, list[str]]) -> Iterator[Finding]:
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        yield Finding("P003", f"tasks {', '.join(sorted(set(error.args[1])))}", "depend on each other in a cycle")


# -- exit task and containers -----------------------------------------------------------------------------------------


def _exit(spec: dict[str, Any], bodies: dict[str, Any], known: set[str]) -> Iterator[Finding]:
    name = spec.get("onExit")
    if not name:
        return
    body = bodies[name]
    if "dag" not in body:
        if missing := [item["name"] for item in inputs_of(body) if item.get("value", item.get("default")) is None]:
            yield Finding("P008", f"template {name}", f"inputs without a value at exit: {', '.join(missing)}")
        return
    tasks = body["dag"].get("tasks") or []
    if len(tasks) != 1:
        yield Finding("P008", f"template {name}", f"expected one exit task, got {len(tasks)}")
        return
    if any(tasks[0].get(key) is not None for key in ("when", "withItems", "withParam", "depends")):
        yield Finding("P008", f"task {tasks[0]['name']}", "an exit task cannot have a condition, loop or dependency")
    if task_outputs(arguments_of(tasks[0]).values()):
        yield Finding("P008", f"task {tasks[0]['name']}", "an exit task can use {{workflow.status}}, but no outputs of tasks")
    yield from _arguments(tasks[0], bodies, known | {"workflow.status"}, "exit task")


def _container(body: dict[str, Any], known: set[str]) -> Iterator[Finding]:
    container, where = body["container"], f"template {body['name']}"
    inputs = {f"inputs.parameters.{item['name']}" for item in inputs_of(body)}
    env = [str(item.get("value", "")) for item in container.get("env") or []]
    for text in [*(container.get("command") or []), *map(str, container.get("args") or []), *env]:
        for reference in references(text):
            if reference not in known | inputs:
                yield Finding("P005", where, f"{{{{{reference}}}}} does not exist")


def _mounts(body: dict[str, Any], volumes: list[dict[str, Any]]) -> Iterator[Finding]:
    names = {volume["name"] for volume in [*volumes, *(body.get("volumes") or [])]}
    for mount in body["container"].get("volumeMounts") or []:
        if mount["name"] not in names:
            yield Finding("P005", f"template {body['name']}", f"mounts volume {mount['name']!r}, which does not exist")
