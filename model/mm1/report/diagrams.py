"""The two graphs of the page: tasks with times, and the lineage of what they made."""

from __future__ import annotations

from dataclasses import dataclass

from mm1.manifests import Checkpoint, DataMix, Deployment, EvalReport, GateDecision, Manifest, RawData
from mm1.report.collect import RunStory
from mm1.report.graph import Box, Layout, layered
from mm1.report.overview import duration, short

TITLE_PX = 7.4
"""Width of a letter of a node's title, about."""
MARKS = {"done": "✓", "cached": "↺", "failed": "✗", "unfinished": "…"}


@dataclass(frozen=True, kw_only=True)
class NodeView:
    """A node as the template draws it."""

    box: Box
    title: str
    note: str
    tone: str
    """CSS class: a task's status or a manifest's kind."""
    mark: str = ""


@dataclass(frozen=True, kw_only=True)
class Diagram:
    """A laid-out graph with its texts."""

    label: str
    layout: Layout
    nodes: list[NodeView]
    dashed: set[tuple[str, str]]
    """Edges drawn dashed: a plain value was passed."""


def task_graph(story: RunStory) -> Diagram | None:
    """Tasks and who used whose output; None when nothing ran."""
    records = {record.task: record for record in story.tasks}
    if not records:
        return None
    wide = max(150.0, min(TITLE_PX * max(map(len, records)) + 44.0, 230.0))
    layout = layered(list(records), [(edge.source, edge.target) for edge in story.edges], node_width=wide)
    nodes = []
    for box in layout.boxes:
        record = records[box.name]
        note = duration(record.seconds) if record.status in ("done", "failed") else record.status
        step = "" if record.step == record.task else f"{record.step} · "
        nodes.append(NodeView(box=box, title=box.name, note=step + note, tone=record.status, mark=MARKS[record.status]))
    dashed = {(edge.source, edge.target) for edge in story.edges if edge.by_value}
    return Diagram(label="tasks of the run", layout=layout, nodes=nodes, dashed=dashed)


def lineage_graph(story: RunStory) -> Diagram | None:
    """Manifests and what they were made from; None when there is none."""
    if not story.found:
        return None
    edges = [(parent, digest) for digest, found in story.found.items() if found.manifest for parent in found.manifest.parents]
    layout = layered(list(reversed(story.found)), edges, node_width=176)
    nodes = []
    for box in layout.boxes:
        manifest = story.found[box.name].manifest
        kind = type(manifest).__name__ if manifest else "unreadable"
        note = f"{box.name[:8]} · {describe(manifest)}" if manifest else box.name[:8]
        nodes.append(NodeView(box=box, title=kind, note=note, tone=kind.lower()))
    return Diagram(label="lineage of what the run made", layout=layout, nodes=nodes, dashed=set())


def describe(manifest: Manifest) -> str:
    """A few words that tell manifests of one kind apart."""
    match manifest:
        case RawData():
            return f"{short(sum(source.num_samples for source in manifest.sources.values()))} samples"
        case DataMix():
            names = [source.name for source in manifest.sources if source.weight > 0]
            return names[0] if len(names) == 1 else f"{len(names)} sources"
        case Checkpoint():
            return f"{manifest.stage}, step {manifest.step}"
        case EvalReport():
            return f"{len(manifest.scores)} score" + "s" * (len(manifest.scores) != 1)
        case GateDecision():
            return manifest.decision
        case Deployment():
            return "deployed" if manifest.deployed else "not deployed"
        case _:
            return "model folder"
