"""Values of raw rows: made encodable, checked for their type, and converted to plain JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

_SURROGATE = re.compile("[\ud800-\udfff]")
BYTE_ORDER_MARK = "\ufeff"
MAX_INTEGER = 2**63


def encodable(text: str) -> str:
    """Make a text encodable as UTF-8 and free of NUL.

    Halves of surrogate pairs (emoji truncated by a crawler) become U+FFFD; complete pairs become their character. NUL
    characters and a byte order mark at the beginning are removed.
    """
    if not text.isascii():
        if _SURROGATE.search(text):
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        text = text.removeprefix(BYTE_ORDER_MARK)
    return text.replace("\0", "") if "\0" in text else text


def as_text(value: Any) -> str | None:
    """Return a text; None if the value is neither a text nor UTF-8 bytes (Spark writes strings as binary columns)."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return None
    return None


def type_of(value: Any) -> str:
    """Return the type of a value in the words of JSON, for messages."""
    names = {type(None): "null", bool: "a boolean", int: "a number", float: "a number", Decimal: "a number", str: "a text"}
    names |= {bytes: "binary data", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def plain(value: Any) -> Any:
    """Convert a value to what strict JSON can hold; None if it has no such form.

    Bytes become texts, decimals become numbers; NaN, infinities and integers beyond 64 bits become None.
    """
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int):
        return value if -MAX_INTEGER <= value < MAX_INTEGER else None
    if isinstance(value, float | Decimal):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {encodable(str(name)): plain(item) for name, item in value.items()}
    text = as_text(value)
    return None if text is None else encodable(text)


def metadata(row: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Return the fields of a row that are kept as a sample's metadata, as plain JSON; missing and empty ones are omitted."""
    return {name: value for name in names if (value := plain(row.get(name))) is not None}
