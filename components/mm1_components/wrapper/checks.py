"""Checks of a step's values: run by the step itself, and before anything is started or sent, by the same functions.

A check is a function of some of the step's inputs, by name, that raises :class:`~mm1.errors.ConfigurationError`::

    def check_recipe(recipe: str, overrides: str, seed: int) -> None: ...
    def check_sizes(recipe: str, overrides: str, data: Made) -> None: ...

    STEP = Step(..., checks=(check_recipe, check_sizes))

It runs as soon as all its inputs are known: before a run starts, what another task will hand over is not. An input annotated
:class:`Made` gives instead which step will make the manifest, and what is known of that step's inputs (:class:`AllMade`, where
an input takes several); inside the step, where the manifest itself is there, such a check is left out, and ``run`` compares the
manifest. An input annotated ``Path`` gives the local file or folder that its address names; where there is none, or the step
will run on another machine than this one, the check is left out. A parameter with a default may be an input that the step does
not have, and ``launcher`` is how it starts ranks (empty: on this machine). Checks import no torch.
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
from mm1_components.wrapper.sources import Kind, check_address, existing, kind_of, path_in, reads_of


@dataclass(frozen=True)
class Made:
    """The maker of a manifest that is not there yet."""

    step: str
    """Name of the step."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Its inputs, as far as they are known."""

    def known(self, *names: str) -> bool:
        """Whether all these inputs are known."""
        return all(name in self.inputs for name in names)


class AllMade(tuple[Made, ...]):
    """The makers of the manifests of an input that takes several."""


def field_value(inputs: type[BaseModel], name: str, text: str) -> Any:
    """An input's value from its text, as the step will read it.

    Raises:
        ConfigurationError: it does not fit the field.
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
    """Of 64 bits where it is whole, and finite."""
    if isinstance(value, int) and abs(value) > INT64_MAX:
        raise ConfigurationError(f"{name}: expected at most {INT64_MAX}, got {SHORT.repr(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{name}: expected a finite number, got {value}")


def run_checks(step: Step[Any, Any], values: Mapping[str, Any]) -> None:
    """Run all checks of a step on its own inputs.

    Raises:
        ConfigurationError: the first complaint.
    """
    for name, value in values.items():
        _check_number(name, value)
        info = step.inputs.model_fields.get(name)
        if info is not None and reads_of(info):
            check_address(name, info, value)
    for error in complaints(step, values):
        raise error


def complaints(
    step: Step[Any, Any], values: Mapping[str, Any], made: Mapping[str, AllMade] | None = None, *, runs_here: bool = True
) -> Iterator[ConfigurationError]:
    """What the checks of a step say about the values that are known.

    Args:
        step: the declaration.
        values: inputs that are known, with their types.
        made: inputs that another step will make.
        runs_here: whether the step will see the files of this machine.
    """
    made = made or {}
    annotated: dict[str, Mapping[str, Any]] = {
        "Path": dict(_paths(step, values)) if runs_here else {},
        "Made": {name: makers[0] for name, makers in made.items() if len(makers) == 1},
        "AllMade": made,
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
    """Inputs that name a file or folder of this machine which is there."""
    for name, info in step.inputs.model_fields.items():
        if name in values and path_in(info, values[name]) and kind_of(values[name]) is Kind.PATH:
            with suppress(ConfigurationError):
                yield name, existing(name, values[name])


def _arguments(
    check: Callable[..., object],
    step: Step[Any, Any],
    annotated: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Any],
) -> dict[str, Any] | None:
    """What a check is called with; None when something of it is not known."""
    arguments = {}
    for name, parameter in inspect.signature(check).parameters.items():
        source = annotated.get(getattr(parameter.annotation, "__name__", parameter.annotation), values)
        if name in source:
            arguments[name] = source[name]
        elif name in step.inputs.model_fields or parameter.default is parameter.empty:
            return None
    return arguments
