"""Reading the YAML files that people hand over: workflows, profiles, values of the chart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from mm1.errors import ConfigurationError


def read_documents(path: Path, what: str) -> list[Any]:
    """The documents of a YAML or JSON file that are not empty.

    Args:
        path: the file.
        what: begin of the message when it cannot be read, for example ``profile site.yaml``.

    Raises:
        ConfigurationError: no such file, or not YAML.
    """
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document is not None]
        json.dumps(documents, default=str)  # refuses a list that holds itself, and keys that are no scalars
        return documents
    except FileNotFoundError:
        raise ConfigurationError(f"{what}: no such file") from None
    except IsADirectoryError:
        raise ConfigurationError(f"{what}: expected a file, got a folder") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # ValueError: not UTF-8, or a date that is none
        raise ConfigurationError(f"{what}: not YAML: {error}") from None


def read_map(path: Path, what: str) -> dict[str, Any]:
    """The one map that a YAML file holds; an empty file is an empty map.

    Raises:
        ConfigurationError: no such file, not YAML, or something else.
    """
    documents = read_documents(path, what)
    if len(documents) > 1 or not all(isinstance(document, dict) for document in documents):
        raise ConfigurationError(f"{what}: expected one map, got {', '.join(map(kind_of, documents))}")
    return dict(*documents)


def kind_of(document: Any) -> str:
    """What a YAML document is, for a person."""
    if isinstance(document, dict):
        return str(document.get("kind") or "an object without a kind")
    return f"a list of {len(document)}" if isinstance(document, list) else f"the text {str(document)[:40]!r}"
