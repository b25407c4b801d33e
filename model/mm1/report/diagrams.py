"""The page's two graphs: tasks with times, and the lineage of their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mm1.lineage.graph import describe
from mm1.lineage.text import duration
from mm1.manifests import Manifest
from mm1.report.collect import RunStory
from mm1.report.graph import Box, Drawing, layered

TITLE_PX = 7.4
"""Approximate width of a character in a node's title, in px."""
MARKS = {"done": "✓", "cached": "↺", "failed": "✗", "stopped": "■", "unfinished": "…"}


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """A node for the templates."""

    box: Box
    title: str
    note: str
    tone: str
    """CSS class: a task's status or a manifest's kind."""
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """A laid-out graph with its labels."""

    label: str
    layout: Drawing
    nodes: list[NodeView]
    dashed: set[tuple[str, str]]
    """Dashed edges: a plain value was passed."""


def task_graph(story: RunStory) -> Diagram | None:
    """Draw the graph of tasks and their dependencies; None if there are no tasks."""
    records = {record.task: record for record in story.tasks}
    if not records:
        return None
    wide = max(150.0, min(TITLE_PX * max(map(len, records)) + 44.0, 230.0))
    layout = layered(list(records), [(edge.source, edge.target) for edge in story.edges], node_width=wide)
    nodes = []
    for box in layout.boxes:
        record = records[box.name]
        note = duration(record.seconds) if record.status in ("done", "failed", "stopped") else record.status
        step = "" if record.step == record.task else f"{record.step} · "
        nodes.append(NodeView(box=box, title=box.name, note=step + note, tone=record.status, mark=MARKS[record.status]))
    dashed = {(edge.source, edge.target) for edge in story.edges if edge.by_value}
    return Diagram(label="tasks of the run", layout=layout, nodes=nodes, dashed=dashed)


def lineage_graph(manifests: Mapping[str, Manifest | None]) -> Diagram | None:
    """Draw the graph of manifests and their parents; None if there are none.

    Args:
        manifests: digest -> manifest, None if unreadable; results come before their ancestors.
    """
    if not manifests:
        return None
    edges = [(parent, digest) for digest, manifest in manifests.items() if manifest for parent in manifest.parents]
    layout = layered(list(manifests)[::-1], edges, node_width=176)
    nodes = []
    for box in layout.boxes:
        manifest = manifests[box.name]
        kind = type(manifest).__name__ if manifest else "unreadable"
        note = f"{box.name[:8]} · {describe(manifest)}" if manifest else box.name[:8]
        nodes.append(NodeView(box=box, title=kind, note=note, tone=kind.lower()))
    return Diagram(label="lineage", layout=layout, nodes=nodes, dashed=set())
