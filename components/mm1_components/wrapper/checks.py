"""Checks of a step's inputs: the same functions run before a workflow is started or submitted, and again in the step.

A check is a function of some of the step's inputs, by name, that raises :class:`~mm1.errors.ConfigurationError`::

    def check_recipe(recipe: str, overrides: str, seed: int) -> None: ...
    def check_sizes(recipe: str, overrides: str, data: Producer) -> None: ...

    STEP = Step(..., checks=(check_recipe, check_sizes))

A check runs once all its inputs are known. Before a run starts, the outputs of other tasks are unknown. A parameter annotated
:class:`Producer` receives the step that will produce the manifest and the known inputs of that step (:class:`Producers` for an
input that takes several manifests). Inside the step, such a check is skipped, and ``run`` checks the manifest itself. A
parameter annotated ``Path`` receives the local file or folder of the address; the check is skipped if it does not exist or if
the step will run on another machine. A parameter with a default may be an input that the step does not have. ``launcher`` is
the way in which the step starts ranks (empty: on this machine); ``store`` is the address of the run's store, known before the
run starts only. Checks do not import torch.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from mm1.config.base import INT64_MAX
from mm1.config.resolve import SHORT, complaint_of
from mm1.errors import ConfigurationError
from mm1_components.wrapper.declaration import Step
from mm1_components.wrapper.sources import Kind, addresses_in, check_address, existing, kind_of, path_in, reads_of


@dataclass(frozen=True)
class Producer:
    """The producer of a manifest that does not exist yet."""

    step: str
    """Name of the step."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Its known inputs; an input that another step produces is a :class:`Producer`."""
    task: str = ""
    """Name of its task."""
    parameters: Mapping[str, str] = field(default_factory=dict)
    """Inputs that are workflow parameters, with the names of those."""

    def known(self, *names: str) -> bool:
        """Whether all these inputs are known."""
        return all(name in self.inputs for name in names)

    def setting(self, name: str) -> str:
        """Return the place where a value of an input is set, for messages: a workflow parameter, or the input of the task."""
        if name in self.parameters:
            return f"parameter {self.parameters[name]}"
        return f"input {name} of task {self.task}" if self.task else f"input {name} of step {self.step}"


class Producers(tuple[Producer, ...]):
    """The producers of the manifests of an input that takes several."""


def field_value(inputs: type[BaseModel], name: str, text: str) -> Any:
    """Parse the text of an input as the step will.

    Raises:
        ConfigurationError: the text is invalid for the field.
    """
    info = inputs.model_fields[name]
    kind: Any = Annotated[(info.annotation, *info.metadata)] if info.metadata else info.annotation
    try:
        value = TypeAdapter(kind).validate_python(text)
    except ValidationError as error:
        raise ConfigurationError(f"{name}: {complaint_of(error.errors(include_url=False)[0])}") from None
    _check_number(name, value)
    check_address(name, info, text)
    return value


def _check_number(name: str, value: Any) -> None:
    """Check that an integer fits into 64 bits and that a number is finite."""
    if isinstance(value, int) and abs(value) > INT64_MAX:
        raise ConfigurationError(f"{name}: expected at most {INT64_MAX}, got {SHORT.repr(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{name}: expected a finite number, got {value}")


def run_checks(step: Step[Any, Any], values: Mapping[str, Any]) -> None:
    """Run all checks of a step on its own inputs.

    Raises:
        ConfigurationError: the first check that fails.
    """
    for name, value in values.items():
        _check_number(name, value)
        info = step.inputs.model_fields.get(name)
        if info is not None and reads_of(info):
            check_address(name, info, value)
    for error in check_errors(step, values):
        raise error


def check_errors(
    step: Step[Any, Any], values: Mapping[str, Any], producers: Mapping[str, Producers] | None = None, *, runs_here: bool = True
) -> Iterator[ConfigurationError]:
    """Run the checks of a step whose inputs are known, and yield their errors.

    Args:
        step: the declaration.
        values: known inputs, parsed.
        producers: inputs that another step will produce.
        runs_here: whether the step can read the files of this machine.
    """
    producers = producers or {}
    annotated: dict[str, Mapping[str, Any]] = {
        "Path": dict(_paths(step, values)) if runs_here else {},
        "Producer": {name: items[0] for name, items in producers.items() if len(items) == 1},
        "Producers": producers,
    }
    for check in step.checks:
        arguments = _arguments(check, step, annotated, values)
        if arguments is None:
            continue
        try:
            check(**arguments)
        except ConfigurationError as error:
            yield error


def _paths(step: Step[Any, Any], values: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Yield the inputs that name an existing file or folder of this machine."""
    for name, info in step.inputs.model_fields.items():
        if name in values and path_in(info, values[name]) and kind_of(values[name]) is Kind.PATH:
            with suppress(ConfigurationError):
                addresses = addresses_in(info, values[name])
                if len(addresses) == 1 and not addresses[0].names:
                    yield name, existing(name, addresses[0].base)


def _arguments(
    check: Callable[..., object],
    step: Step[Any, Any],
    annotated: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Return the arguments of a check; None if one of them is unknown."""
    arguments = {}
    for name, parameter in inspect.signature(check).parameters.items():
        source = annotated.get(getattr(parameter.annotation, "__name__", parameter.annotation), values)
        if name in source:
            arguments[name] = source[name]
        elif name in step.inputs.model_fields or parameter.default is parameter.empty:
            return None
    return arguments
