"""Loading of a model by the name that other harnesses pass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mm1.errors import ConfigurationError
from mm1.evals.models.base import EvalModel

_OF_HARNESSES = frozenset({"max_batch_size", "device"})
"""Settings that both harnesses add themselves. They also add batch_size, 1 if the user sets none, which then does not count."""


def load_by_name(name: str, settings: Mapping[str, Any]) -> EvalModel:
    """Load a model by the name that `mm1 eval` takes.

    Args:
        name: a folder, an address or a checkpoint.
        settings: settings of the model, as the options of `mm1 eval`; `store` is the address of a checkpoint's store.

    Raises:
        ConfigurationError: the name is empty or none of these, or a setting is unknown.
    """
    if not name:
        raise ConfigurationError("model mm1: expected pretrained=FOLDER in --model_args")
    from mm1.evals.models.config import ModelSettings
    from mm1.evals.models.find import find_model
    from mm1.evals.models.load import load_model

    fields = {key: value for key, value in settings.items() if key not in _OF_HARNESSES}
    if str(fields.get("batch_size", 1)) in ("1", "None", "auto"):
        fields.pop("batch_size", None)
    store = str(fields.pop("store", ""))
    if unknown := fields.keys() - ModelSettings.model_fields.keys():
        known = ", ".join(sorted(ModelSettings.model_fields))
        raise ConfigurationError(f"model_args: unknown setting {min(unknown)!r}; known: pretrained, store, {known}")
    return load_model(find_model(name, ModelSettings(**fields), store))
