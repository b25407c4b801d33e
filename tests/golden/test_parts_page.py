"""The reference of connectors, tasks and laptop recipes is what the registries hold."""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mm1.evals.tasks.registry import TASKS
from mm1.modeling.configuration import CONNECTOR_TYPES
from mm1.modeling.connectors import build_connector
from mm1.recipes import registry
from tests.support.tiny_model import tiny_config

PAGE = Path(__file__).parents[2] / "docs/reference/parts.md"
BLOCK = re.compile(r"(<!-- parts: `make golden` writes them -->\n)(.*)(<!-- /parts -->)", re.DOTALL)


def table(title: str, setting: str, columns: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    yield f"## {title}\n\n{setting}\n\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def connectors() -> Iterator[tuple[str, ...]]:
    for name in CONNECTOR_TYPES:
        with torch.device("meta"):
            yield f"`{name}`", (inspect.getdoc(type(build_connector(tiny_config(name)))) or "").splitlines()[0]


def tasks() -> Iterator[tuple[str, ...]]:
    for name, task in TASKS.items():
        shots = ", ".join(map(str, task.shots)) if task.shots else "as given"
        yield f"`{name}`", task.summary, ", ".join(f"`{metric}`" for metric in task.metrics), shots


def laptop_recipes() -> Iterator[tuple[str, ...]]:
    for recipe in registry.TINY:
        config = recipe()
        batch = f"{config.train.steps:,} x {config.train.global_batch}"
        yield f"`{recipe.__name__}`", config.stage, batch, registry.describe(recipe.__name__)


def sections() -> Iterator[str]:
    yield from table("Connectors", "`-p overrides=model.connector.type=NAME`", ("name", "what it is"), connectors())
    setting = "`-p tasks=NAME`; a rule of the gate is `NAME/SHOTS/METRIC>=NUMBER`. The first metric is the headline."
    yield from table("Evaluation tasks", setting, ("name", "what is asked", "metrics", "shots"), tasks())
    columns = ("name", "stage", "steps x sequences", "what it is")
    yield from table("Laptop recipes", "`-p recipe=NAME`", columns, laptop_recipes())


@pytest.mark.golden
def test_the_page_has_every_part() -> None:
    parts = "\n" + "\n".join(sections()) + "\n"
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        page = BLOCK.sub(lambda match: match[1] + parts + match[3], page)
        PAGE.write_text(page, encoding="utf-8")
    match = BLOCK.search(page)
    assert match and match[2] == parts, "docs/reference/parts.md is out of date: run `make golden` if the change is meant"
