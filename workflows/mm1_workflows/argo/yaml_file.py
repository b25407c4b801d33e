"""Reading YAML files from users: workflows, profiles, values of the chart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from mm1.errors import ConfigurationError


def read_documents(path: Path, what: str) -> list[Any]:
    """Read the non-empty documents of a YAML or JSON file.

    Args:
        path: the file.
        what: start of the error message, for example ``profile site.yaml``.

    Raises:
        ConfigurationError: no such file, or invalid YAML.
    """
    try:
        documents = [document for document in yaml.safe_load_all(path.read_text("utf-8")) if document is not None]
        json.dumps(documents, default=str)  # fails for recursive lists and for keys that are not scalars
        return documents
    except FileNotFoundError:
        raise ConfigurationError(f"{what}: no such file") from None
    except IsADirectoryError:
        raise ConfigurationError(f"{what}: expected a file, got a folder") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:  # ValueError: not UTF-8, or an invalid date
        raise ConfigurationError(f"{what}: invalid YAML: {error}") from None


def read_map(path: Path, what: str) -> dict[str, Any]:
    """Read a YAML file that contains one map; an empty file is an empty map.

    Raises:
        ConfigurationError: no such file, invalid YAML, or not one map.
    """
    documents = read_documents(path, what)
    if len(documents) > 1 or not all(isinstance(document, dict) for document in documents):
        raise ConfigurationError(f"{what}: expected one map, got {', '.join(map(kind_of, documents))}")
    return dict(*documents)


def kind_of(document: Any) -> str:
    """Describe a YAML document for messages."""
    if isinstance(document, dict):
        return str(document.get("kind") or "an object without a kind")
    return f"a list of {len(document)}" if isinstance(document, list) else f"the text {str(document)[:40]!r}"
