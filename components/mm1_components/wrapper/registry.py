"""The steps of this project by name: the modules of :mod:`mm1_components` (but not its packages).

A step that runs other steps looks them up here, because no step imports another one.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

import mm1_components
from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1_components.wrapper.declaration import Step


class UnknownStepError(ConfigurationError, AttributeError):
    """There is no such step; also an AttributeError, so that ``hasattr(steps, name)`` works."""


def names() -> list[str]:
    """Return the names of all steps, without importing them."""
    return sorted(module.name for module in pkgutil.iter_modules(mm1_components.__path__) if not module.ispkg)


def declaration(name: str) -> Step[Any, Any]:
    """Return the declaration of a step.

    Raises:
        UnknownStepError: there is no such step; the message suggests the closest name.
        ConfigurationError: the name in its declaration is not its module's.
    """
    known = names()
    if name not in known:
        raise UnknownStepError(f"no step {name!r}; {suggest(name, known)}")
    module = f"mm1_components.{name}"
    step: Step[Any, Any] = importlib.import_module(module).STEP
    if (step.name, step.module) != (name, module):
        raise ConfigurationError(f"{module}: expected STEP.name {name!r}, with its Inputs declared there, got {step.name!r}")
    return step
