"""Configuration overrides and canonical JSON.

``resolve(config, ["train.steps=20", "optim.lr=1e-3"])`` returns a new, validated configuration. The dotted path names the
field; the value is parsed as JSON, or kept as a plain string if it is not JSON. Invalid overrides raise one
:class:`~mm1.errors.ConfigurationError` that names the field, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import json
import reprlib
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mm1.errors import ConfigurationError

ModelT = TypeVar("ModelT", bound=BaseModel)

WITHOUT_VALUE = {"missing": "is required", "extra_forbidden": "unknown field"}
EXPECTED = {
    "int_parsing": "an integer",
    "int_parsing_size": "an integer",
    "int_from_float": "an integer",
    "int_type": "an integer",
    "float_parsing": "a number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "string_type": "text",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a map",
    "model_type": "a map",
    "literal_error": "{expected}",
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "multiple_of": "a multiple of {multiple_of}",
}
"""Type of a pydantic error -> what the field expects."""
SHORT = reprlib.Repr()
"""Abbreviates user input in messages, however long or deeply nested it is."""
SHORT.maxstring = SHORT.maxother = 200


def resolve(config: ModelT, overrides: Sequence[str]) -> ModelT:
    """Apply ``path=value`` overrides.

    Args:
        config: the configuration to start from; it is not changed.
        overrides: for example ``["train.steps=20"]``.

    Raises:
        ConfigurationError: an override has no ``=``, names an unknown field, or has an invalid value.
    """
    tree = _whole_tree(config)
    for override in overrides:
        path, text = path_of(override), override.partition("=")[2]
        _set(tree, path.split("."), read_value(text.strip()), path)
    return validate(type(config), tree)


def _whole_tree(config: BaseModel) -> dict[str, Any]:
    """Return plain data with every field, also those that are left out of stored configurations because they are empty."""
    values = {name: getattr(config, name) for name in type(config).model_fields}
    sections = {name: _whole_tree(value) for name, value in values.items() if isinstance(value, BaseModel)}
    return {**values, **config.model_dump(mode="json"), **sections}


def split_overrides(text: str) -> list[str]:
    """Split a text into overrides, with the quoting of a shell.

    Raises:
        ConfigurationError: an unclosed quote.
    """
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigurationError(f"overrides: {SHORT.repr(text)}: {str(error).lower()}; close it, or remove it") from None


def path_of(override: str) -> str:
    """Return the field named by an override.

    Raises:
        ConfigurationError: it is not of the form path=value.
    """
    path, separator, _ = override.partition("=")
    if not separator or not path.strip():
        raise ConfigurationError(f"override {SHORT.repr(override)} is not in the form path=value, e.g. train.steps=20")
    return path.strip()


def read_value(text: str) -> Any:
    """Parse a user's value: as JSON if possible, otherwise as the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # not JSON, or a number of thousands of digits, thousands of brackets
        return text


def validate(cls: type[ModelT], tree: Any, what: str = "") -> ModelT:
    """Build ``cls`` from plain data and turn pydantic's errors into one readable message."""
    try:
        return cls.model_validate(tree)
    except ValidationError as error:
        raise ConfigurationError(_sentence(_complaints(error, cls), what)) from None


def complaints(cls: type[BaseModel], tree: Any) -> list[tuple[str, str]]:
    """List the fields of plain data that are invalid for ``cls``, each with its error."""
    try:
        cls.model_validate(tree)
    except ValidationError as error:
        return list(_complaints(error, cls))
    return []


def explain(error: ValidationError, what: str = "") -> str:
    """Explain each invalid field in a sentence: name, expected value, actual value."""
    return _sentence(_complaints(error), what)


def _complaints(error: ValidationError, cls: type[BaseModel] | None = None) -> Iterator[tuple[str, str]]:
    for item in error.errors(include_url=False):
        complaint = complaint_of(item)
        if item["type"] == "extra_forbidden" and cls is not None:
            complaint += f"; {suggest(str(item['loc'][-1]), _fields_at(cls, item['loc'][:-1]))}"
        yield ".".join(map(str, item["loc"])), complaint


def _sentence(wrong: Iterable[tuple[str, str]], what: str) -> str:
    parts = [f"{name}: {complaint}" if name else complaint for name, complaint in wrong]
    return (f"{what}: " if what else "") + "; ".join(parts)


def _fields_at(cls: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """List the names of the fields at a path in a model's data."""
    models = [cls]
    for key in path:  # a map key or a list index leads to the same models
        inner = [model for outer in models if key in (fields := _fields(outer)) for model in _models(fields[key])]
        models = inner or models
    return sorted({str(name) for model in models for name in _fields(model)})


def _fields(model: type[BaseModel]) -> dict[str | int, Any]:
    return {info.alias or name: info.annotation for name, info in model.model_fields.items()}


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for inner in get_args(annotation) for model in _models(inner)]


def complaint_of(item: ErrorDetails) -> str:
    """Rephrase a pydantic error: ``expected an integer, got 'x'``."""
    context = item.get("ctx") or {}
    if item["type"] == "value_error":
        return str(context["error"])  # raised by one of our validators
    if item["type"] in WITHOUT_VALUE:
        return WITHOUT_VALUE[item["type"]]
    text = EXPECTED.get(item["type"])
    message = f"expected {text.format(**context)}" if text else f"{item['msg'][:1].lower()}{item['msg'][1:]}"
    return f"{message}, got {SHORT.repr(item['input'])}"


def canonical_json(value: Any) -> str:
    """Return the canonical JSON for digests: sorted keys, no spaces, no NaN."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def suggest(name: str, known: Sequence[str]) -> str:
    """Suggest the nearest known name for an unknown one, or list all known names."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"


def _set(tree: dict[str, Any], keys: list[str], value: Any, path: str) -> None:
    node: Any = tree
    for depth, key in enumerate(keys):
        where = ".".join(keys[:depth]) or "the configuration"
        if node is None:
            raise ConfigurationError(f"override {path}: this configuration has no {where}")
        if not isinstance(node, dict):
            raise ConfigurationError(f"override {path}: {where} is a value without fields")
        if key not in node:
            raise ConfigurationError(f"override {path}: {where} has no field {key!r}; {suggest(key, sorted(node))}")
        if depth == len(keys) - 1:
            node[key] = value
        else:
            node = node[key]
