r"""Checks of a workflow's values before it is started or submitted: types, the checks of its steps, and where it runs.

::

    Graph + parameter values --> for each task that runs a step of this project: the inputs that are known
                                     |-- each is valid for its field (an integer, at least 1, one of ...)
                                     |-- the step's own checks pass (mm1_components.wrapper.checks)
                                     \-- on a cluster: every path is mounted in the pods

The outputs of other tasks are unknown, but the steps that produce them and the inputs of these steps are known.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from mm1.config.resolve import suggest
from mm1.config.values import quoted
from mm1.errors import ConfigurationError
from mm1.store.address import BUCKET_SCHEME, check_store
from mm1_components.ranks.launcher import parse_launcher
from mm1_components.wrapper.arguments import LAUNCHER_FLAG, PLACEMENT, role_of
from mm1_components.wrapper.checks import Producer, Producers, check_errors, field_value
from mm1_components.wrapper.declaration import Step
from mm1_components.wrapper.registry import declaration
from mm1_components.wrapper.sources import Kind, addresses_in, check_exists, kind_of, path_in, reads_of
from mm1_workflows.argo.document import Document
from mm1_workflows.argo.expressions import REFERENCE, TASK_OUTPUT, references, substitute
from mm1_workflows.argo.graph import Graph, TaskNode, Template, graph_of
from mm1_workflows.argo.parameters import defaults_of, unknown_choice
from mm1_workflows.authoring.profiles import Profile
from mm1_workflows.rules.finding import Finding
from mm1_workflows.rules.subset import is_string_list

PARAMETER = "workflow.parameters."
Complaint = tuple[str, str]
"""Task or parameter, and the error."""
STORE = "store"
"""Workflow parameter with the address of the store."""


@dataclass
class _Task:
    """A task and its known inputs."""

    node: TaskNode
    step: Step[Any, Any]
    values: dict[str, Any] = field(default_factory=dict)
    """Known inputs, parsed."""
    texts: dict[str, str] = field(default_factory=dict)
    """Known inputs, as text."""
    complaints: list[Complaint] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Name of the task in messages."""
        return f"task {self.node.name}"


def valid_values(document: Document, profile: Profile) -> Iterator[Finding]:
    """Check rule P022."""
    workflow = graph_of(document)
    for where, complaint in value_complaints(workflow, defaults_of(workflow), on_cluster=True, starting=False):
        yield Finding("P022", where, complaint)


def check_values(workflow: Graph, values: Mapping[str, str], *, on_cluster: bool, starting: bool = True) -> None:
    """Check values that a step would reject later.

    Args:
        workflow: the graph.
        values: known workflow parameters: given values and defaults.
        on_cluster: whether pods will run it, which have no access to the files of this machine.
        starting: whether a run with these values is about to start; otherwise its store may still be another one.

    Raises:
        ConfigurationError: a value is invalid; one line for each error, with its task or parameter.
    """
    if complaints := value_complaints(workflow, values, on_cluster=on_cluster, starting=starting):
        raise ConfigurationError("\n".join(f"{label}: {complaint}" for label, complaint in complaints))


def value_complaints(workflow: Graph, values: Mapping[str, str], *, on_cluster: bool, starting: bool = True) -> list[Complaint]:
    """Return the errors in values; the same error in several tasks is reported once.

    Args:
        workflow: the graph.
        values: known workflow parameters.
        on_cluster: whether pods will run it.
        starting: whether a run with these values is about to start; otherwise its store may still be another one.
    """
    labels: dict[str, list[str]] = {}
    for label, complaint in _complaints(workflow, values, on_cluster, starting):
        labels.setdefault(complaint, []).append(label)
    return [(", ".join(dict.fromkeys(names)), complaint) for complaint, names in labels.items()]


def _complaints(workflow: Graph, values: Mapping[str, str], on_cluster: bool, starting: bool) -> Iterator[Complaint]:
    nodes = [*workflow.tasks.values(), *([workflow.on_exit] if workflow.on_exit else [])]
    tasks = {node.name: _read(node, step, values) for node in nodes if (step := _step(node.template))}
    for name, parameter in workflow.parameters.items():
        if name in values and (complaint := unknown_choice(parameter, values[name])):
            yield f"parameter {name}", complaint
    wrong_store = list(_store(values.get(STORE), on_cluster))
    yield from ((f"parameter {STORE}", text) for text in wrong_store)
    known_store = {STORE: values[STORE]} if starting and STORE in values and not wrong_store else {}
    for task in [*chain.from_iterable(_repeated(task, values) for task in tasks.values())]:
        if not task.complaints:
            launcher = launcher_text(task.node.template) if on_cluster else ""
            known = task.values | known_store | ({} if on_cluster and not launcher else {"launcher": launcher})
            errors = check_errors(task.step, known, dict(_producers(task, tasks)), runs_here=not on_cluster)
            task.complaints += [(task.label, str(error)) for error in errors]
        if task.complaints:
            tasks.pop(task.node.name, None)  # its outputs are unknown until the errors are fixed
        yield from task.complaints
        yield from ((task.label, text) for text in [*_pools(task), *_paths(task, on_cluster)])


def _step(template: Template) -> Step[Any, Any] | None:
    """Return the step of a template; None for other containers and for steps of another version of this project."""
    try:
        return declaration(template.step.replace("-", "_")) if template.step else None
    except ConfigurationError:
        return None


def _repeated(task: _Task, values: Mapping[str, str]) -> Iterator[_Task]:
    """Yield a task for each item of its loop, if the items are known; without a loop, the task itself."""
    try:
        text = substitute(task.node.loop or "", _lookup(values))
    except KeyError:
        text = ""
    if not text:
        yield task
    elif is_string_list(text):
        yield from (_read(task.node, task.step, values, item) for item in json.loads(text))
    else:
        task.complaints.append((task.label, f"expected a JSON list of strings to loop over, got {quoted(text)}"))
        yield task


def _read(node: TaskNode, step: Step[Any, Any], values: Mapping[str, str], item: str | None = None) -> _Task:
    """Return a task with its known inputs, for one item if it is in a loop."""
    task, lookup = _Task(node, step), _lookup(values, item)
    for name, default in node.template.inputs.items():
        if name not in step.inputs.model_fields:
            continue
        argument = node.arguments.get(name)
        try:
            text = substitute(argument, lookup) if argument is not None else default
        except KeyError:
            continue  # known only after another task has run
        if text is None:
            continue
        try:
            task.values[name] = field_value(step.inputs, name, text)
            task.texts[name] = text
        except ConfigurationError as error:
            parameter = _parameter(argument)
            label = f"parameter {parameter}" if parameter else task.label
            task.complaints.append((label, str(error).removeprefix(f"{name}: ") if parameter else str(error)))
    return task


def _lookup(values: Mapping[str, str], item: str | None = None) -> Callable[[str], str]:
    def lookup(reference: str) -> str:
        if reference == "item" and item is not None:
            return item
        if not reference.startswith(PARAMETER):
            raise KeyError(reference)
        return values[reference.removeprefix(PARAMETER)]

    return lookup


def _parameter(argument: str | None) -> str:
    """Return the workflow parameter that an argument consists of; empty for other arguments."""
    match = REFERENCE.fullmatch(argument or "")
    return match[1].removeprefix(PARAMETER) if match and match[1].startswith(PARAMETER) else ""


def _producers(task: _Task, tasks: Mapping[str, _Task]) -> Iterator[tuple[str, Producers]]:
    """Yield the inputs that other tasks produce (one output, or several separated by spaces), with their producers."""
    for name, argument in task.node.arguments.items():
        outputs = [TASK_OUTPUT.match(reference) for reference in references(argument)]
        producers = [tasks.get(output["task"]) if output else None for output in outputs]
        if producers and all(producers) and not REFERENCE.sub("", argument).strip():
            yield name, Producers(_producer(item, tasks) for item in producers if item)


def _producer(task: _Task, tasks: Mapping[str, _Task]) -> Producer:
    """Return a task as a producer; inputs that other tasks produce are producers in turn."""
    produced = {name: items[0] for name, items in _producers(task, tasks) if len(items) == 1}
    parameters = {name: parameter for name, argument in task.node.arguments.items() if (parameter := _parameter(argument))}
    return Producer(task.step.name, {**task.values, **produced}, task.node.name, parameters)


# -- where it runs ----------------------------------------------------------------------------------------------------


def _pools(task: _Task) -> Iterator[str]:
    """Check that the launcher has the pool that a step selects."""
    try:
        pools = parse_launcher(launcher_text(task.node.template)).pools
    except ConfigurationError:
        return  # it starts no ranks, or rule P019 reports the error
    for name in (name for name, info in task.step.inputs.model_fields.items() if role_of(info) == PLACEMENT):
        pool = task.texts.get(name)
        if pool and pool not in pools:
            yield f"{name} {pool!r} does not exist in this profile, or has no GPUs; {suggest(pool, list(pools))}"


def launcher_text(template: Template) -> str:
    """Return the launcher of a template as JSON; empty if it starts no ranks."""
    flag = f"{LAUNCHER_FLAG}="
    return next((word.removeprefix(flag) for word in template.args if word.startswith(flag)), "")


def _store(address: str | None, on_cluster: bool) -> Iterator[str]:
    """Check that the store's address is valid and that pods can write to it."""
    if address is None:
        return
    try:
        check_store(address)
    except ConfigurationError as error:
        yield str(error)
        return
    if on_cluster and not address.startswith(BUCKET_SCHEME):
        yield f"pods cannot write to {quoted(address)}, because they mount claims read-only; set s3://bucket/prefix"


def _paths(task: _Task, on_cluster: bool) -> Iterator[str]:
    """Check that paths in inputs exist where the step will run."""
    for name, text in task.texts.items():
        info = task.step.inputs.model_fields[name]
        for address in addresses_in(info, text):
            path = path_in(info, address.base)
            if path and on_cluster and not any(_is_below(path, mount) for mount in task.node.template.mounts):
                in_bucket = Kind.BUCKET in reads_of(info) or kind_of(address.base) is Kind.MANIFEST
                bucket = "copy it to a bucket (s3://...), or " if in_bucket else ""
                where = quoted(address.text)
                yield f"{name}: pods have no access to {where}: {bucket}mount a claim there (`volumes` in the profile)"
            elif path and not on_cluster and kind_of(address.base) is Kind.PATH:
                try:
                    check_exists(name, address)
                except ConfigurationError as error:
                    yield str(error)


def _is_below(path: str, mount: str) -> bool:
    return f"{posixpath.normpath(path).rstrip('/')}/".startswith(f"{mount.rstrip('/')}/")


def check_braces(given: Mapping[str, str]) -> None:
    """Check that values contain no double braces, which engines would treat as references.

    Raises:
        ConfigurationError: a value contains double braces.
    """
    for name, value in given.items():
        if "{{" in value:
            raise ConfigurationError(
                f"parameter {name}: expected a value without '{{{{', which engines substitute, got {value!r}"
            )
