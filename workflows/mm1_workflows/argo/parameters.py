"""Typed ``-p key=value``, checked against the workflow before it is started or submitted.

A workflow parameter has the type of the step inputs that it is passed to; text if there are none.
"""

from __future__ import annotations

import copy
import shlex
from collections.abc import Sequence

from mm1.config.resolve import suggest
from mm1.config.values import integer_name, parse_integer, parse_number, quoted
from mm1.errors import ConfigurationError
from mm1.manifests import MANIFEST_NAME
from mm1_workflows.argo.document import Document, InputType, parameters_of, spec_of
from mm1_workflows.argo.graph import Graph, WorkflowParameter

TYPE_NAMES = {
    "integer": "an integer",
    "number": "a number",
    "boolean": "true or false",
    "manifest": "the address of a manifest (<store>/manifests/<sha256>.json)",
}


def parse(given: Sequence[str]) -> dict[str, str]:
    """Parse items such as ``seed=1`` into a dictionary.

    Raises:
        ConfigurationError: an item has no ``=`` or is not UTF-8, or a name is given twice.
    """
    values: dict[str, str] = {}
    for item in given:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise ConfigurationError(f"parameter: expected name=value, for example seed=1, got {item!r}")
        if any("\ud800" <= character <= "\udfff" for character in item):  # surrogates stand for undecodable bytes
            raise ConfigurationError(f"parameter {name!r} is not valid UTF-8: {value!r}")
        if name in values:
            raise ConfigurationError(f"parameter {name!r} is given twice: {values[name]!r} and {value!r}")
        values[name] = value
    return values


def check(workflow: Graph, given: dict[str, str], file: str = "") -> dict[str, str]:
    """Return all parameters of a run, given values and defaults, after checking them.

    Args:
        workflow: the graph.
        given: values by name.
        file: the workflow file, for the command in the message that lists the parameters.

    Raises:
        ConfigurationError: unknown name, wrong type, or a missing value.
    """
    complaints = [_unknown(workflow, name) for name in given if name not in workflow.parameters]
    values: dict[str, str] = {}
    for name, parameter in workflow.parameters.items():
        value = given.get(name, parameter.value)
        if value is None:
            complaints.append(f"parameter {name!r} is required: {parameter.description or parameter.type}")
        elif name in given and (complaint := mismatch(value, parameter.type)):
            complaints.append(f"parameter {name}: expected {complaint}, got {quoted(value)}")
        elif complaint := unknown_choice(parameter, value):
            complaints.append(f"parameter {name}: {complaint}")
        else:
            values[name] = _canonical(value, parameter.type)
    if complaints:
        hint = [f"all parameters: mm1 run {shlex.quote(file)} --list"] if file else []
        raise ConfigurationError("\n".join([*complaints, *hint]))
    return values


def defaults_of(workflow: Graph) -> dict[str, str]:
    """Return the defaults of the parameters that have one."""
    return {name: parameter.value for name, parameter in workflow.parameters.items() if parameter.value is not None}


def mismatch(value: str, kind: InputType) -> str | None:
    """Return the expected type if a value does not have it; None if it does."""
    if isinstance(kind, list):
        return None if value in kind else f"one of {', '.join(kind)}"
    try:
        if kind == "integer":
            parse_integer(value, signed=True)
        elif kind == "number":
            parse_number(value)
    except ValueError:
        return integer_name(value) if kind == "integer" else TYPE_NAMES[kind]
    if kind == "boolean" and value.lower() not in ("true", "false"):
        return TYPE_NAMES[kind]
    if kind == "manifest" and value and not MANIFEST_NAME.match(value):
        return TYPE_NAMES[kind]
    return None


def unknown_choice(parameter: WorkflowParameter, value: str) -> str:
    """Return the error if a value is not among the parameter's choices (Argo rejects it, too); empty if it is."""
    if not parameter.choices or value in parameter.choices:
        return ""
    return f"unknown value {quoted(value)}; {suggest(value, parameter.choices)}"


def apply(document: Document, values: dict[str, str]) -> Document:
    """Return a copy of the workflow with other parameter values."""
    changed = copy.deepcopy(document)
    for raw in parameters_of(spec_of(changed)):
        if raw["name"] in values:
            raw["value"] = values[raw["name"]]
    return changed


def _canonical(value: str, kind: InputType) -> str:
    return value.lower() if kind == "boolean" else value


def _unknown(workflow: Graph, name: str) -> str:
    return f"unknown parameter {name!r}; {suggest(name, list(workflow.parameters))}"


def listing(workflow: Graph) -> list[str]:
    """Return one line per parameter: name, type, default, description."""
    width = max((len(name) for name in workflow.parameters), default=0)
    return [f"  {name:<{width}}  {_describe(parameter)}" for name, parameter in sorted(workflow.parameters.items())]


def _describe(parameter: WorkflowParameter) -> str:
    choices = parameter.type if isinstance(parameter.type, list) else parameter.choices
    kind = "|".join(choices) or parameter.type
    default = "required" if parameter.value is None else f"default {parameter.value!r}"
    return f"{kind}, {default}{'; ' + parameter.description if parameter.description else ''}"
