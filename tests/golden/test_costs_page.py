"""The costs in the page about infrastructure are those of the table of pools."""

from __future__ import annotations

import os
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/how-to/infrastructure.md"
BLOCK = re.compile(r"(<!-- costs: `make golden` writes them -->\n)(.*)(<!-- /costs -->)", re.DOTALL)


@pytest.mark.golden
def test_the_page_has_the_costs_of_the_table() -> None:
    costs = f"\n{runpy.run_path(str(ROOT / 'infra/costs.py'))['table']()}\n\n"
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        page = BLOCK.sub(lambda match: match[1] + costs + match[3], page)
        PAGE.write_text(page, encoding="utf-8")
    match = BLOCK.search(page)
    assert match and match[2] == costs, "docs/how-to/infrastructure.md is out of date: run `make golden` if the change is meant"
