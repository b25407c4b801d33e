"""The page about security has the rights and the network policies of the chart."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.rights import TEMPLATES, table

PAGE = Path(__file__).parents[2] / "docs/reference/security.md"
BLOCK = re.compile(r"(<!-- rights: `make golden` writes them -->\n)(.*)(<!-- /rights -->)", re.DOTALL)


@pytest.mark.golden
def test_the_page_has_every_right() -> None:
    rights = f"\n{table()}\n\n"
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        page = BLOCK.sub(lambda match: match[1] + rights + match[3], page)
        PAGE.write_text(page, encoding="utf-8")
    match = BLOCK.search(page)
    assert match and match[2] == rights, "docs/reference/security.md is out of date: run `make golden` if the change is meant"


def test_the_page_has_every_network_policy() -> None:
    documents = (TEMPLATES / "networkpolicies.yaml").read_text().split("\n---\n")
    policies = [re.findall(r"^  name: (mm1-[a-z-]+)$", document, re.MULTILINE) for document in documents]
    section = PAGE.read_text().partition("\n## What the network allows\n")[2].partition("\n## ")[0]
    described = re.findall(r"^\| `(mm1-[a-z-]+)` \|", section, re.MULTILINE)
    assert described and sorted(described) == sorted(name for names in policies for name in names)


def test_every_account_is_described() -> None:
    values = (TEMPLATES.parent / "values.yaml").read_text()
    section = PAGE.read_text().partition("\n## Who may do what\n")[2].partition("\n## ")[0]
    for role in re.findall(r"^  (\w+): {name: mm1-\w+", values, re.MULTILINE):
        assert re.search(rf"^\| (a|the) {'server' if role == 'serve' else role} \|", section, re.MULTILINE), role
