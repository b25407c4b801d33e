r"""Values of a workflow, checked before anything is started or sent: by type, by the checks of its steps, and by where it runs.

::

    Graph + parameter values --> for each task of a step of this project: inputs that are known already
                                     |-- each fits its field (an integer, at least 1, one of ...)
                                     |-- the step's own checks agree (mm1_components.wrapper.checks)
                                     \-- on a cluster: every path can be seen by pods

What a task gets from another one is not known; but which step makes it, and with which inputs, is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1.manifests import MANIFEST_NAME
from mm1_components.ranks.launcher import parse_launcher
from mm1_components.wrapper.arguments import LAUNCHER_FLAG, MANIFEST, PLACEMENT, SOURCE, role_of
from mm1_components.wrapper.checks import Made, complaints, field_value
from mm1_components.wrapper.declaration import Step
from mm1_components.wrapper.sources import BUCKET_SCHEME, WORLD_SCHEME
from mm1_workflows.argo.document import Document
from mm1_workflows.argo.expressions import REFERENCE, TASK_OUTPUT, substitute
from mm1_workflows.argo.graph import Graph, TaskNode, Template, graph_of
from mm1_workflows.argo.parameters import defaults_of
from mm1_workflows.authoring.declarations import declaration
from mm1_workflows.authoring.profiles import Profile
from mm1_workflows.rules.finding import Finding

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
    tasks = {node.name: _Task(node, step) for node in nodes if (step := _step(node.template))}
    for task in tasks.values():
        _read(task, values)
    if on_cluster and not values.get(STORE, BUCKET_SCHEME).startswith(BUCKET_SCHEME):
        yield f"parameter {STORE}", f"no pod sees {values[STORE]!r}, a folder of this machine; give s3://bucket/prefix"
    for task in tasks.values():
        yield from task.complaints
        yield from ((task.label, text) for text in [*_pools(task), *_addresses(task, on_cluster)])
        if not task.complaints:
            launcher = launcher_text(task.node.template) if on_cluster else ""
            known = task.values | ({} if on_cluster and not launcher else {"launcher": launcher})
            yield from ((task.label, str(error)) for error in complaints(task.step, known, dict(_made(task, tasks))))


def _step(template: Template) -> Step[Any, Any] | None:
    """The declaration of a template's step; None for containers of others, and for steps of another version of this project."""
    try:
        return declaration(template.step.replace("-", "_")) if template.step else None
    except ConfigurationError:
        return None


def _read(task: _Task, values: Mapping[str, str]) -> None:
    """Take in what is known of a task's inputs."""
    lookup = _lookup(values)
    for name, default in task.node.template.inputs.items():
        if name not in task.step.inputs.model_fields:
            continue
        argument = task.node.arguments.get(name)
        try:
            text = substitute(argument, lookup) if argument is not None else default
        except KeyError:
            continue  # known only when another task has run
        if text is None:
            continue
        try:
            task.values[name] = field_value(task.step.inputs, name, text)
            task.texts[name] = text
        except ConfigurationError as error:
            parameter = _parameter(argument)
            place = f"parameter {parameter}" if parameter else task.label
            task.complaints.append((place, str(error).removeprefix(f"{name}: ") if parameter else str(error)))


def _lookup(values: Mapping[str, str]) -> Callable[[str], str]:
    def lookup(reference: str) -> str:
        if not reference.startswith(PARAMETER):
            raise KeyError(reference)
        return values[reference.removeprefix(PARAMETER)]

    return lookup


def _parameter(argument: str | None) -> str:
    """The workflow parameter that an argument passes on as it is; empty for anything else."""
    match = REFERENCE.fullmatch(argument or "")
    return match[1].removeprefix(PARAMETER) if match and match[1].startswith(PARAMETER) else ""


def _made(task: _Task, tasks: Mapping[str, _Task]) -> Iterator[tuple[str, Made]]:
    """Inputs that another task of the workflow makes."""
    for name, argument in task.node.arguments.items():
        match = REFERENCE.fullmatch(argument)
        output = TASK_OUTPUT.match(match[1]) if match else None
        if output and (maker := tasks.get(output["task"])):
            yield name, Made(maker.step.name, maker.values)


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


def _addresses(task: _Task, on_cluster: bool) -> Iterator[str]:
    """Inputs that name raw files or manifests lead somewhere, from where the step will run."""
    for name, text in task.texts.items():
        info = task.step.inputs.model_fields[name]
        role = role_of(info)
        if not text or text == info.default or role not in (SOURCE, MANIFEST):
            continue
        match = MANIFEST_NAME.match(text)
        address = match["store"] if match else text
        if address.startswith(WORLD_SCHEME):
            if not address.removeprefix(WORLD_SCHEME).isdigit():
                yield f"{name}: expected world:<seed>, for example world:0, got {text!r}"
        elif address.startswith(BUCKET_SCHEME) or (role == MANIFEST and not match):
            continue  # a manifest's address is checked by its type
        elif on_cluster and not any(_is_below(address, mount) for mount in task.node.template.mounts):
            yield (
                f"{name}: no pod sees {text!r}: put the data into a bucket (s3://...), or mount a claim there "
                "(`volumes` of the profile)"
            )
        elif not on_cluster and not match and not Path(text).expanduser().exists():
            yield f"{name}: no such file or folder: {text}"


def _is_below(path: str, mount: str) -> bool:
    return f"{path.removeprefix('file://').rstrip('/')}/".startswith(f"{mount.rstrip('/')}/")


def check_braces(given: Mapping[str, str]) -> None:
    """Refuse values that engines would take for references, each in another way.

    Raises:
        ConfigurationError: a value holds double braces.
    """
    for name, value in given.items():
        if "{{" in value:
            raise ConfigurationError(f"parameter {name}: a value cannot hold '{{{{', which engines replace; got {value!r}")
