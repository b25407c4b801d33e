"""Dashboards, alerts and the page of metrics are what the code defines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from mm1.monitoring.metric import Metric
from mm1.monitoring.serving import SERVING
from mm1.monitoring.training import RUN_LABELS, STATE_MEANINGS, TRAINING
from mm1_workflows.monitoring import alerts, dashboards

ROOT = Path(__file__).parents[2]
FILES = ROOT / "charts/mm1/files"
PAGE = ROOT / "docs/reference/metrics.md"
BLOCK = re.compile(r"(<!-- metrics: `make golden` writes them -->\n)(.*)(<!-- /metrics -->)", re.DOTALL)


def generated() -> dict[Path, str]:
    files = {FILES / "alerts.yaml": alerts.as_text()}
    return files | {FILES / "dashboards" / f"{name}.json": dashboards.as_text(name) for name in dashboards.DASHBOARDS}


@pytest.mark.golden
@pytest.mark.parametrize("path", generated(), ids=lambda path: path.name)
def test_the_charts_files_are_up_to_date(path: Path) -> None:
    text = generated()[path]
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert path.read_text() == text, "run `make golden` if the change is meant"


@pytest.mark.golden
def test_there_is_no_dashboard_without_a_definition() -> None:
    assert {path.stem for path in (FILES / "dashboards").iterdir()} == set(dashboards.DASHBOARDS)


def rows(metrics: Mapping[str, Metric]) -> Iterator[str]:
    yield "| metric | type | labels | unit | meaning |\n|---|---|---|---|---|"
    for metric in metrics.values():
        name = f"{metric.name}_total" if metric.kind == "counter" else metric.name
        labels = ", ".join(f"`{label}`" for label in metric.labels)
        yield f"| `{name}` | {metric.kind} | {labels} | {metric.unit} | {metric.help} |"


def sections() -> Iterator[str]:
    common = ", ".join(f"`{label}`" for label in RUN_LABELS)
    yield f"## Training\n\nEvery metric also has the labels {common}.\n"
    yield from rows(TRAINING)
    yield "\n| state | meaning |\n|---|---|"
    yield from (f"| `{name}` | {meaning} |" for name, meaning in STATE_MEANINGS.items())
    yield "\n## Serving\n"
    yield from rows(SERVING)
    yield "\n## Thresholds of the alerts\n\nValues of the chart below `monitoring.rules.thresholds`.\n"
    yield "| name | default | meaning |\n|---|---|---|"
    yield from (f"| `{name}` | {item.default:g} | {item.meaning} |" for name, item in alerts.THRESHOLDS.items())


@pytest.mark.golden
def test_the_page_has_every_metric() -> None:
    text = "\n" + "\n".join(sections()) + "\n\n"
    page = PAGE.read_text(encoding="utf-8")
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        page = BLOCK.sub(lambda match: match[1] + text + match[3], page)
        PAGE.write_text(page, encoding="utf-8")
    match = BLOCK.search(page)
    assert match and match[2] == text, "docs/reference/metrics.md is out of date: run `make golden` if the change is meant"


def test_the_guide_explains_every_alert() -> None:
    guide = (ROOT / "docs/how-to/monitoring.md").read_text()
    assert [alert.name for alert in alerts.ALERTS if f"| `{alert.name}` |" not in guide] == []
