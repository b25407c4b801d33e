"""Names of columns and fields in data sets: which one holds the caption, the image, the text, the conversation.

The names that people use most are known; others are given by the user (``columns="captions.caption=TEXT"``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from mm1.errors import ConfigurationError

ROLES: dict[str, tuple[str, ...]] = {
    "caption": ("caption", "captions", "text", "alt", "alt_text", "description", "title", "prompt", "comment"),
    "image": (
        *("jpg", "jpeg", "png", "webp", "image", "image_bytes", "img", "images", "picture"),
        *("image_path", "image_file", "image_name", "file_name", "filename", "file", "path"),
    ),
    "url": ("url", "image_url", "img_url", "link"),
    "text": ("text", "content", "raw_content", "body", "document", "markdown"),
    "conversation": ("conversations", "messages", "conversation", "texts", "dialog", "chat"),
    "images": ("images", "image"),
    "texts": ("texts",),
}
"""Role -> names, in order of preference; upper and lower case are not distinguished."""
SOURCE_ROLES: dict[str, tuple[str, ...]] = {
    "captions": ("caption", "image", "url"),
    "synthetic": ("caption", "image", "url"),
    "interleaved": ("images", "texts"),
    "text": ("text",),
    "instructions": ("conversation", "image"),
}
"""Source -> roles whose names may be given."""


def column_for(role: str, names: Iterable[str], given: Mapping[str, str]) -> str | None:
    """Choose the column or field of a role; None if there is none.

    Args:
        role: the role.
        names: columns of a table, or fields of a row.
        given: names given by the user: role -> name. A given name is used as it is, or not at all.
    """
    names = list(names)
    if role in given:
        return given[role] if given[role] in names else None
    for known in ROLES[role]:
        if known in names:
            return known
    lower = {name.lower(): name for name in reversed(names)}
    return next((lower[known] for known in ROLES[role] if known in lower), None)


def parse_columns(text: str) -> dict[str, dict[str, str]]:
    """Parse ``captions.caption=TEXT captions.image=jpg`` to: source -> role -> name.

    For names with spaces or commas, the text is a JSON object: ``{"captions.caption": "alt text"}``.

    Raises:
        ConfigurationError: malformed, an unknown source or role, or a role given twice.
    """
    columns: dict[str, dict[str, str]] = {}
    for item in _items(text):
        left, separator, name = item.partition("=")
        source, _, role = left.partition(".")
        if not separator or not name or source not in SOURCE_ROLES or role not in SOURCE_ROLES[source]:
            known = ", ".join(f"{each}.{role}" for each, roles in SOURCE_ROLES.items() for role in roles)
            raise ConfigurationError(
                f"columns: expected source.role=name with one of {known}, got {item!r}; "
                'names with spaces or commas are given as JSON: {"captions.caption": "alt text"}'
            )
        if role in columns.setdefault(source, {}):
            raise ConfigurationError(f"columns: {left} is given twice")
        columns[source][role] = name
    return columns


def _items(text: str) -> list[str]:
    """Split at spaces and commas, or return the items of a JSON object."""
    if not text.lstrip().startswith("{"):
        return text.replace(",", " ").split()
    try:
        pairs = json.loads(text, object_pairs_hook=list)
    except (ValueError, RecursionError):
        pairs = None
    if not isinstance(pairs, list) or not all(isinstance(name, str) for _, name in pairs):
        raise ConfigurationError(f'columns: expected JSON such as {{"captions.caption": "alt text"}}, got {text[:200]!r}')
    return [f"{left}={name}" for left, name in pairs]
