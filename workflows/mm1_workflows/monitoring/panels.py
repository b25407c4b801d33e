"""Parts of a Grafana dashboard, in the JSON of Grafana 11 and newer: queries, panels, variables, and their arrangement."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

SCHEMA_VERSION = 39
"""Grafana 11.0; newer versions migrate it when they load it."""
COLUMNS = 24
"""Width of a dashboard in Grafana's units."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
Json = dict[str, Any]
Kind = Literal["timeseries", "stat", "state-timeline", "table"]


@dataclass(frozen=True)
class Query:
    """A line, or several, of a panel."""

    expression: str
    """In Prometheus' query language, with Grafana's variables."""
    legend: str = ""
    """With labels in double braces; empty: all labels."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel."""

    title: str
    queries: tuple[Query, ...]
    kind: Kind = "timeseries"
    unit: str = "short"
    """Grafana's name of the unit."""
    width: int = 8
    height: int = 8
    text: str = ""
    """Explanation behind the panel's i."""
    is_stacked: bool = False
    is_logarithmic: bool = False
    mappings: tuple[tuple[str, str, str], ...] = ()
    """Value, text and colour, of a state timeline."""

    def as_json(self, number: int, column: int, row: int) -> Json:
        """Return the panel.

        Args:
            number: its ID in the dashboard.
            column: of its left edge.
            row: of its upper edge.
        """
        panel: Json = {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "datasource": SOURCE,
            "gridPos": {"h": self.height, "w": self.width, "x": column, "y": row},
            "targets": [self._target(index, query) for index, query in enumerate(self.queries)],
            "fieldConfig": {"defaults": {"unit": self.unit, **self._defaults()}, "overrides": []},
            "options": self._options(),
        }
        return panel | ({"description": self.text} if self.text else {})

    def _target(self, index: int, query: Query) -> Json:
        is_table = self.kind == "table"
        return {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "editorMode": "code",
            "expr": query.expression,
            "legendFormat": query.legend or "__auto",
            "instant": is_table,
            "range": not is_table,
            **({"format": "table"} if is_table else {}),
        }

    def _defaults(self) -> Json:
        if self.kind == "timeseries":
            stacking = {"mode": "normal" if self.is_stacked else "none", "group": "A"}
            scale = {"type": "log", "log": 10} if self.is_logarithmic else {"type": "linear"}
            fill = 30 if self.is_stacked else 0
            custom = {
                "lineWidth": 1,
                "fillOpacity": fill,
                "showPoints": "never",
                "stacking": stacking,
                "scaleDistribution": scale,
            }
            return {"custom": custom}
        if self.mappings:
            options = {value: {"text": text, "color": colour} for value, text, colour in self.mappings}
            return {"mappings": [{"type": "value", "options": options}]}
        return {}

    def _options(self) -> Json:
        if self.kind == "timeseries":
            legend = {"displayMode": "list", "placement": "bottom", "showLegend": True}
            return {"legend": legend, "tooltip": {"mode": "multi", "sort": "desc"}}
        if self.kind == "stat":
            reduce = {"calcs": ["lastNotNull"], "fields": "", "values": False}
            return {"reduceOptions": reduce, "colorMode": "none", "graphMode": "area", "textMode": "auto"}
        if self.kind == "state-timeline":
            return {"mergeValues": True, "showValue": "never", "rowHeight": 0.8, "legend": {"showLegend": False}}
        return {"showHeader": True}


@dataclass(frozen=True)
class Section:
    """A row of a dashboard with its panels."""

    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A choice at the top of a dashboard."""

    name: str
    query: str
    """``label_values(metric, label)``."""
    has_all: bool = False
    """Whether several values, and all, can be chosen."""

    def as_json(self) -> Json:
        """Return the variable."""
        every = {"allValue": ".*", "current": {"text": "All", "value": "$__all"}} if self.has_all else {}
        return {
            "name": self.name,
            "type": "query",
            "datasource": SOURCE,
            "definition": self.query,
            "query": {"query": self.query, "refId": self.name, "qryType": 5},
            "refresh": 2,
            "sort": 1,
            "includeAll": self.has_all,
            "multi": self.has_all,
            **every,
        }


def dashboard(uid: str, title: str, text: str, variables: Iterable[Variable], sections: Sequence[Section]) -> Json:
    """Return a dashboard; panels are arranged from left to right, then in a new line.

    Args:
        uid: address of the dashboard.
        title: its title.
        text: its description.
        variables: choices, after that of the data source.
        sections: rows with panels.
    """
    source = {"name": "datasource", "type": "datasource", "label": "Data source", "query": "prometheus", "refresh": 1}
    return {
        "uid": uid,
        "title": title,
        "description": text,
        "tags": ["mm1"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "timezone": "",
        "templating": {"list": [source, *(variable.as_json() for variable in variables)]},
        "annotations": {"list": []},
        "links": [],
        "panels": _arranged(sections),
    }


def _arranged(sections: Sequence[Section]) -> list[Json]:
    panels: list[Json] = []
    row = 0
    for section in sections:
        position = {"h": 1, "w": COLUMNS, "x": 0, "y": row}
        head = {"id": len(panels) + 1, "type": "row", "title": section.title, "collapsed": False, "gridPos": position}
        panels.append({**head, "panels": []})
        row += 1
        column, height = 0, 0
        for panel in section.panels:
            if column + panel.width > COLUMNS:
                row, column, height = row + height, 0, 0
            panels.append(panel.as_json(len(panels) + 1, column, row))
            column, height = column + panel.width, max(height, panel.height)
        row += height
    return panels
