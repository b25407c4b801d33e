"""Layered layout of a small directed graph: names and edges in, coordinates out.

The usual four steps (Sugiyama): layers by longest path, dummy nodes for edges that skip a layer, ordering within a layer by
the mean position of the neighbours, then coordinates. This is sufficient for pipelines with tens of nodes. The template
renders the result as SVG, so names are escaped and colours follow the page's theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SWEEPS = 8
MARGIN = 4.0


@dataclass(kw_only=True)
class Box:
    """A node on the canvas; a dummy node routes a long edge around the nodes of its layer."""

    name: str
    layer: int
    x: float = 0.0
    """Centre, in px."""
    y: float = 0.0
    """Top edge, in px."""
    hidden: bool = False
    above: list[str] = field(default_factory=list)
    below: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Line:
    """An edge as an SVG path."""

    source: str
    target: str
    path: str


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A graph with coordinates."""

    width: float
    height: float
    node_width: float
    node_height: float
    boxes: list[Box]
    lines: list[Line]


def layered(
    names: Sequence[str],
    edges: Sequence[tuple[str, str]],
    *,
    node_width: float = 150.0,
    node_height: float = 46.0,
    gap: float = 22.0,
    layer_gap: float = 34.0,
) -> Drawing:
    """Lay out a graph from top to bottom.

    Args:
        names: nodes, in their preferred order.
        edges: pairs (from, to); edges that would close a cycle or refer to unknown nodes are ignored.
        node_width: width of a node, in px.
        node_height: height of a node, in px.
        gap: minimum distance between two nodes of a layer, in px.
        layer_gap: distance between two layers, in px.
    """
    acyclic = _acyclic(names, edges)
    layer_of = _layers(names, acyclic)
    boxes = {name: Box(name=name, layer=layer_of[name]) for name in names}
    chains = [_chain(boxes, edge) for edge in acyclic]
    rows = [[box for box in boxes.values() if box.layer == layer] for layer in range(max(layer_of.values(), default=-1) + 1)]
    _order(rows, boxes)
    _assign_positions(rows, boxes, node_width, gap)
    for box in boxes.values():
        box.y = MARGIN + box.layer * (node_height + layer_gap)
    lines = [
        Line(source=chain[0], target=chain[-1], path=_path([boxes[name] for name in chain], node_height)) for chain in chains
    ]
    right = max((box.x + _width(box, node_width) / 2 for box in boxes.values()), default=0.0)
    return Drawing(
        width=round(right + MARGIN, 1),
        height=round(max(len(rows), 1) * (node_height + layer_gap) - layer_gap + 2 * MARGIN, 1),
        node_width=node_width,
        node_height=node_height,
        boxes=[box for box in boxes.values() if not box.hidden],
        lines=lines,
    )


def _acyclic(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Remove edges of unknown nodes and edges that would close a cycle."""
    below: dict[str, list[str]] = {name: [] for name in names}
    kept: list[tuple[str, str]] = []
    for source, target in dict.fromkeys(edges):
        if source in below and target in below and source not in _reachable(below, target):
            below[source].append(target)
            kept.append((source, target))
    return kept


def _reachable(below: dict[str, list[str]], start: str) -> set[str]:
    seen, queue = {start}, [start]
    while queue:
        fresh = [name for name in below[queue.pop()] if name not in seen]
        seen.update(fresh)
        queue.extend(fresh)
    return seen


def _layers(names: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    layer_of = dict.fromkeys(names, 0)
    for _ in names:
        for source, target in edges:
            layer_of[target] = max(layer_of[target], layer_of[source] + 1)
    return layer_of


def _chain(boxes: dict[str, Box], edge: tuple[str, str]) -> list[str]:
    """List the nodes along an edge, including new dummy nodes; adjacency is recorded in both directions."""
    source, target = edge
    chain = [source]
    for layer in range(boxes[source].layer + 1, boxes[target].layer):
        name = f"{source}\0{target}\0{layer}"
        boxes[name] = Box(name=name, layer=layer, hidden=True)
        chain.append(name)
    chain.append(target)
    for upper, lower in pairwise(chain):
        boxes[upper].below.append(lower)
        boxes[lower].above.append(upper)
    return chain


def _order(rows: list[list[Box]], boxes: dict[str, Box]) -> None:
    """Sort each row by the mean position of its neighbours, alternating between downwards and upwards."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        places = {box.name: index / max(len(row) - 1, 1) for row in rows for index, box in enumerate(row)}
        for row in rows if down else reversed(rows):
            row.sort(key=lambda box: _mean([places[name] for name in (box.above if down else box.below)], places[box.name]))
            places |= {box.name: index / max(len(row) - 1, 1) for index, box in enumerate(row)}


def _assign_positions(rows: list[list[Box]], boxes: dict[str, Box], node_width: float, gap: float) -> None:
    """Centre each node below its neighbours, as far as there is room in its row."""
    for row in rows:
        total = sum(_width(box, node_width) for box in row) + gap * (len(row) - 1)
        left = -total / 2
        for box in row:
            box.x = left + _width(box, node_width) / 2
            left += _width(box, node_width) + gap
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            sides = [box.above if sweep % 2 == 0 else box.below for box in row]
            preferred = [_mean([boxes[name].x for name in side], box.x) for side, box in zip(sides, row, strict=True)]
            _spread(row, preferred, node_width, gap)
    left = min((box.x - _width(box, node_width) / 2 for box in boxes.values()), default=0.0)
    for box in boxes.values():
        box.x = round(box.x - left + MARGIN, 1)


def _spread(row: list[Box], preferred: list[float], node_width: float, gap: float) -> None:
    """Move each node to its preferred position, pushing neighbours apart evenly (order is preserved)."""
    offsets = [0.0]
    for left, right in pairwise(row):
        offsets.append(offsets[-1] + (_width(left, node_width) + _width(right, node_width)) / 2 + gap)
    # Minus the offsets, "no overlap" becomes "non-decreasing": pool adjacent violators (isotonic regression).
    groups: list[list[float]] = []
    for target, offset in zip(preferred, offsets, strict=True):
        groups.append([target - offset])
        while len(groups) > 1 and _mean(groups[-2], 0.0) > _mean(groups[-1], 0.0):
            groups[-2:] = [groups[-2] + groups[-1]]
    level = [_mean(group, 0.0) for group in groups for _ in group]
    for box, base, offset in zip(row, level, offsets, strict=True):
        box.x = base + offset


def _path(chain: list[Box], node_height: float) -> str:
    """Draw a smooth path from the bottom of the first node to the top of the last one."""
    start = chain[0]
    parts = [f"M{start.x:g},{start.y + node_height:g}"]
    y = start.y + node_height
    x = start.x
    for box in chain[1:]:
        middle = (y + box.y) / 2
        parts.append(f"C{x:g},{middle:g} {box.x:g},{middle:g} {box.x:g},{box.y:g}")
        x, y = box.x, box.y
        if box.hidden:
            y = box.y + node_height
            parts.append(f"L{x:g},{y:g}")
    return " ".join(parts)


def _width(box: Box, node_width: float) -> float:
    return 0.0 if box.hidden else node_width


def _mean(values: list[float], default: float) -> float:
    return sum(values) / len(values) if values else default
