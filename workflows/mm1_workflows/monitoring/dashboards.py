"""The Grafana dashboards, as files of the chart: ``charts/mm1/files/dashboards/*.json`` (``make golden`` writes them)."""

from __future__ import annotations

import json

from mm1_workflows.monitoring.serving_dashboard import serving
from mm1_workflows.monitoring.training_dashboard import training

DASHBOARDS = {"training": training, "serving": serving}
"""Name of the file -> the function that makes it."""


def as_text(name: str) -> str:
    """Return the file of a dashboard."""
    return json.dumps(DASHBOARDS[name](), indent=1) + "\n"
