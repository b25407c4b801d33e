r"""Values of a workflow, checked before anything is started or sent: by type, by the checks of its steps, and by where it runs.

::

    Graph + parameter values --> for each task of a step of this project: inputs that are known already
                                     |-- each fits its field (an integer, at least 1, one of ...)
                                     |-- the step's own checks agree (mm1_components.wrapper.checks)
                                     \-- on a cluster: every path can be seen by pods

What a task gets from another one is not known; but which step makes it, and with which inputs, is.
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
from mm1_components.wrapper.checks import AllMade, Made, complaints, field_value
from mm1_components.wrapper.declaration import Step
from mm1_components.wrapper.sources import Kind, existing, kind_of, path_in, reads_of
from mm1_workflows.argo.document import Document
from mm1_workflows.argo.expressions import REFERENCE, TASK_OUTPUT, references, substitute
from mm1_workflows.argo.graph import Graph, TaskNode, Template, graph_of
from mm1_workflows.argo.parameters import defaults_of, unknown_choice
from mm1_workflows.authoring.declarations import declaration
from mm1_workflows.authoring.profiles import Profile
from mm1_workflows.rules.finding import Finding
from mm1_workflows.rules.subset import is_string_list

PARAMETER = "workflow.parameters."
Complaint = tuple[str, str]
"""Task or parameter, and what is wrong."""
STORE = "store"
"""Workflow parameter with the address of the store."""


@dataclass
class _Task:
    """A task with what is known of it."""

    node: TaskNode
    step: Step[Any, Any]
    values: dict[str, Any] = field(default_factory=dict)
    """Inputs that are known, with their types."""
    texts: dict[str, str] = field(default_factory=dict)
    """The same as text."""
    complaints: list[Complaint] = field(default_factory=list)

    @property
    def label(self) -> str:
        """Its name in messages."""
        return f"task {self.node.name}"


def valid_values(document: Document, profile: Profile) -> Iterator[Finding]:
    """P022."""
    workflow = graph_of(document)
    for where, complaint in value_complaints(workflow, defaults_of(workflow), on_cluster=True):
        yield Finding("P022", where, complaint)


def check_values(workflow: Graph, values: Mapping[str, str], *, on_cluster: bool) -> None:
    """Refuse values that some step would refuse later.

    Args:
        workflow: the graph.
        values: workflow parameters that are known: given ones over defaults.
        on_cluster: whether pods will run it, which do not see the files of this machine.

    Raises:
        ConfigurationError: one line for each complaint, with its task or parameter.
    """
    if found := value_complaints(workflow, values, on_cluster=on_cluster):
        raise ConfigurationError("\n".join(f"{place}: {complaint}" for place, complaint in found))


def value_complaints(workflow: Graph, values: Mapping[str, str], *, on_cluster: bool) -> list[Complaint]:
    """What is wrong with values; a complaint about several tasks is one."""
    places: dict[str, list[str]] = {}
    for place, complaint in _complaints(workflow, values, on_cluster):
        places.setdefault(complaint, []).append(place)
    return [(", ".join(dict.fromkeys(names)), complaint) for complaint, names in places.items()]


def _complaints(workflow: Graph, values: Mapping[str, str], on_cluster: bool) -> Iterator[Complaint]:
    nodes = [*workflow.tasks.values(), *([workflow.on_exit] if workflow.on_exit else [])]
    tasks = {node.name: _read(node, step, values) for node in nodes if (step := _step(node.template))}
    for name, parameter in workflow.parameters.items():
        if name in values and (complaint := unknown_choice(parameter, values[name])):
            yield f"parameter {name}", complaint
    yield from ((f"parameter {STORE}", text) for text in _store(values.get(STORE), on_cluster))
    for task in [*chain.from_iterable(_repeated(task, values) for task in tasks.values())]:
        if not task.complaints:
            launcher = launcher_text(task.node.template) if on_cluster else ""
            known = task.values | ({} if on_cluster and not launcher else {"launcher": launcher})
            errors = complaints(task.step, known, dict(_made(task, tasks)), runs_here=not on_cluster)
            task.complaints += [(task.label, str(error)) for error in errors]
        if task.complaints:
            tasks.pop(task.node.name, None)  # what it makes is not known before it is put right
        yield from task.complaints
        yield from ((task.label, text) for text in [*_pools(task), *_paths(task, on_cluster)])


def _step(template: Template) -> Step[Any, Any] | None:
    """The declaration of a template's step; None for containers of others, and for steps of another version of this project."""
    try:
        return declaration(template.step.replace("-", "_")) if template.step else None
    except ConfigurationError:
        return None


def _repeated(task: _Task, values: Mapping[str, str]) -> Iterator[_Task]:
    """A task once for each item of its loop, where the items are known; without a loop the task itself."""
    try:
        text = substitute(task.node.loop or "", _lookup(values))
    except KeyError:
        text = ""
    if not text:
        yield task
    elif is_string_list(text):
        yield from (_read(task.node, task.step, values, item) for item in json.loads(text))
    else:
        task.complaints.append((task.label, f"loops over {quoted(text)}, which is not a JSON list of strings"))
        yield task


def _read(node: TaskNode, step: Step[Any, Any], values: Mapping[str, str], item: str | None = None) -> _Task:
    """A task with what is known of its inputs; of one in a loop, for an item of it."""
    task, lookup = _Task(node, step), _lookup(values, item)
    for name, default in node.template.inputs.items():
        if name not in step.inputs.model_fields:
            continue
        argument = node.arguments.get(name)
        try:
            text = substitute(argument, lookup) if argument is not None else default
        except KeyError:
            continue  # known only when another task has run
        if text is None:
            continue
        try:
            task.values[name] = field_value(step.inputs, name, text)
            task.texts[name] = text
        except ConfigurationError as error:
            parameter = _parameter(argument)
            place = f"parameter {parameter}" if parameter else task.label
            task.complaints.append((place, str(error).removeprefix(f"{name}: ") if parameter else str(error)))
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
    """The workflow parameter that an argument passes on as it is; empty for anything else."""
    match = REFERENCE.fullmatch(argument or "")
    return match[1].removeprefix(PARAMETER) if match and match[1].startswith(PARAMETER) else ""


def _made(task: _Task, tasks: Mapping[str, _Task]) -> Iterator[tuple[str, AllMade]]:
    """Inputs that other tasks of the workflow make: one output, or several separated by spaces."""
    for name, argument in task.node.arguments.items():
        outputs = [TASK_OUTPUT.match(reference) for reference in references(argument)]
        makers = [tasks.get(output["task"]) if output else None for output in outputs]
        if makers and all(makers) and not REFERENCE.sub("", argument).strip():
            yield name, AllMade(Made(maker.step.name, maker.values) for maker in makers if maker)


# -- where it runs ----------------------------------------------------------------------------------------------------


def _pools(task: _Task) -> Iterator[str]:
    """The pool that a step names is one that its launcher knows."""
    try:
        pools = parse_launcher(launcher_text(task.node.template)).pools
    except ConfigurationError:
        return  # it starts no ranks, or rule P019 says what is wrong
    for name in (name for name, info in task.step.inputs.model_fields.items() if role_of(info) == PLACEMENT):
        pool = task.texts.get(name)
        if pool and pool not in pools:
            yield f"{name} {pool!r} is unknown in this profile, or has no GPUs; {suggest(pool, list(pools))}"


def launcher_text(template: Template) -> str:
    """The JSON with which a template starts ranks; empty when it starts none."""
    flag = f"{LAUNCHER_FLAG}="
    return next((word.removeprefix(flag) for word in template.args if word.startswith(flag)), "")


def _store(address: str | None, on_cluster: bool) -> Iterator[str]:
    """The store is one, and pods can write to it."""
    if address is None:
        return
    try:
        check_store(address)
    except ConfigurationError as error:
        yield str(error)
        return
    if on_cluster and not address.startswith(BUCKET_SCHEME):
        yield f"no pod sees {quoted(address)}: pods write to a bucket, and mount claims read-only; give s3://bucket/prefix"


def _paths(task: _Task, on_cluster: bool) -> Iterator[str]:
    """Paths that inputs name can be seen from where the step will run."""
    for name, text in task.texts.items():
        info = task.step.inputs.model_fields[name]
        path = path_in(info, text)
        if path and on_cluster and not any(_is_below(path, mount) for mount in task.node.template.mounts):
            in_bucket = Kind.BUCKET in reads_of(info) or kind_of(text) is Kind.MANIFEST
            bucket = "put it into a bucket (s3://...), or " if in_bucket else ""
            yield f"{name}: no pod sees {quoted(text)}: {bucket}mount a claim there (`volumes` of the profile)"
        elif path and not on_cluster and kind_of(text) is Kind.PATH:
            try:
                existing(name, text)
            except ConfigurationError as error:
                yield str(error)


def _is_below(path: str, mount: str) -> bool:
    return f"{posixpath.normpath(path).rstrip('/')}/".startswith(f"{mount.rstrip('/')}/")


def check_braces(given: Mapping[str, str]) -> None:
    """Refuse values that engines would take for references, each in another way.

    Raises:
        ConfigurationError: a value holds double braces.
    """
    for name, value in given.items():
        if "{{" in value:
            raise ConfigurationError(f"parameter {name}: a value cannot hold '{{{{', which engines replace; got {value!r}")
