"""Bodies of requests: bytes -> JSON object, whatever the content type says.

Text that is not Unicode (half a surrogate pair) is replaced by U+FFFD here, once for all fields.
"""

from __future__ import annotations

import json
from typing import Any

from mm1.serve.api.errors import ApiError

REPLACEMENT = "\ufffd"


def parse_object(body: bytes) -> dict[str, Any]:
    """Parse the body of a request.

    Args:
        body: JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.

    Raises:
        ApiError: it is not a JSON object.
    """
    if not body or body.isspace():
        raise ApiError("the request has no body: send a JSON object")
    try:
        value = _whole_characters(json.loads(body))
    except UnicodeDecodeError as error:
        raise ApiError(f"the body is not text in UTF-8 (byte {error.start}): send JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ApiError(f"the body is not valid JSON ({where}): {error.msg[:1].lower()}{error.msg[1:]}") from None
    except RecursionError:
        raise ApiError("the body is not usable JSON: brackets are nested too deeply") from None
    except ValueError:  # of Python's int, for thousands of digits
        raise ApiError("the body is not usable JSON: a number has too many digits") from None
    if not isinstance(value, dict):
        raise ApiError(f"the body: expected a JSON object, got {kind_of(value)}")
    return value


def kind_of(value: Any) -> str:
    """Name the JSON type of a value for error messages: ``null``, ``a list``, ``the number 3``."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _whole_characters(value: Any) -> Any:
    if isinstance(value, str):
        return _whole_text(value)
    if isinstance(value, list):
        return [_whole_characters(item) for item in value]
    if isinstance(value, dict):
        return {_whole_text(key): _whole_characters(item) for key, item in value.items()}
    return value


def _whole_text(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
