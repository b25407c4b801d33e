"""The reference of a profile's fields is what the code declares."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from mm1_components.wrapper.nodes import Interfaces, Nodes, Size
from mm1_components.wrapper.pools import ClaimMount, Network, Pool, Taint
from mm1_workflows.authoring.profiles import Accounts, Profile, Retries

PAGE = Path(__file__).parents[2] / "docs/reference/profile.md"
SECTIONS = (Profile, Pool, Taint, Network, Nodes, Interfaces, Size, Accounts, Retries, ClaimMount)
BLOCK = re.compile(r"(<!-- fields: `make golden` writes them -->\n)(.*)(<!-- /fields -->)", re.DOTALL)

HEAD = "| field | type | default | meaning |\n|---|---|---|---|"
PLAIN = {str: "text", int: "integer", float: "number", bool: "true or false"}


def type_name(annotation: Any) -> str:
    if (origin := get_origin(annotation)) is None:
        return PLAIN.get(annotation, getattr(annotation, "__name__", str(annotation)))
    arguments = [type_name(argument) if not isinstance(argument, str) else argument for argument in get_args(annotation)]
    if origin is dict:
        return f"map of name to {arguments[1]}"
    if origin is tuple:
        return f"list of {arguments[0]}"
    return " or ".join(arguments) if getattr(origin, "__name__", "") == "Literal" else arguments[0]


def default_of(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, BaseModel):
        return "see below"
    return f"`{to_jsonable_python(value)}`" if value not in ("", {}, ()) else "empty"


def rows(section: type[BaseModel]) -> Iterator[str]:
    yield f"## {section.__name__}\n\n{(section.__doc__ or '').strip()}\n\n{HEAD}"
    for name, field in section.model_fields.items():
        meaning = " ".join((field.description or "").replace("``", "`").split())
        assert meaning, f"{section.__name__}.{name} has no docstring"
        yield f"| `{name}` | {type_name(field.annotation)} | {default_of(field)} | {meaning} |"
    yield ""


@pytest.mark.golden
def test_the_page_has_every_field_of_a_profile() -> None:
    fields = "\n" + "\n".join(row for section in SECTIONS for row in rows(section)) + "\n"
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        page = BLOCK.sub(lambda match: match[1] + fields + match[3], page)
        PAGE.write_text(page, encoding="utf-8")
    match = BLOCK.search(page)
    assert match and match[2] == fields, "docs/reference/profile.md is out of date: run `make golden` if the change is meant"
