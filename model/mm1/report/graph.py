"""Draws a small directed graph in layers: names and edges in, coordinates out.

The usual four steps (Sugiyama): layers by longest path, invisible nodes where an edge jumps over a layer, order within a layer
by the mean place of the neighbours, then coordinates. Enough for the tens of nodes of a pipeline; the template turns the result
into SVG, so that names are escaped and colours follow the page's theme.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

SWEEPS = 8
MARGIN = 4.0


@dataclass(kw_only=True)
class Box:
    """A node on the canvas; an invisible one bends a long edge around its layer's nodes."""

    name: str
    layer: int
    x: float = 0.0
    """Centre, in px."""
    y: float = 0.0
    """Upper border, in px."""
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
    """A drawn graph."""

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
    """Lay a graph out from top to bottom.

    Args:
        names: nodes, in the order in which they are to stand where edges leave it open.
        edges: pairs (from, to); edges that would close a circle, and those of unknown nodes, are left out.
        node_width: width of a node, in px.
        node_height: height of a node, in px.
        gap: least distance between two nodes of a layer, in px.
        layer_gap: distance between two layers, in px.
    """
    wanted = _acyclic(names, edges)
    layer_of = _layers(names, wanted)
    boxes = {name: Box(name=name, layer=layer_of[name]) for name in names}
    chains = [_chain(boxes, edge) for edge in wanted]
    rows = [[box for box in boxes.values() if box.layer == layer] for layer in range(max(layer_of.values(), default=-1) + 1)]
    _order(rows, boxes)
    _place(rows, boxes, node_width, gap)
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
    """Edges between known nodes, without those that lead back to where one came from."""
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
    """The nodes that an edge passes, invisible ones made on its way; neighbours noted in both directions."""
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
    """Sort each row by the mean place of its neighbours, downwards and upwards in turn."""
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        places = {box.name: index / max(len(row) - 1, 1) for row in rows for index, box in enumerate(row)}
        for row in rows if down else reversed(rows):
            row.sort(key=lambda box: _mean([places[name] for name in (box.above if down else box.below)], places[box.name]))
            places |= {box.name: index / max(len(row) - 1, 1) for index, box in enumerate(row)}


def _place(rows: list[list[Box]], boxes: dict[str, Box], node_width: float, gap: float) -> None:
    """Centre each node under its neighbours, as far as the nodes of its row leave room."""
    for row in rows:
        total = sum(_width(box, node_width) for box in row) + gap * (len(row) - 1)
        left = -total / 2
        for box in row:
            box.x = left + _width(box, node_width) / 2
            left += _width(box, node_width) + gap
    for sweep in range(SWEEPS):
        for row in rows if sweep % 2 == 0 else reversed(rows):
            sides = [box.above if sweep % 2 == 0 else box.below for box in row]
            wishes = [_mean([boxes[name].x for name in side], box.x) for side, box in zip(sides, row, strict=True)]
            _spread(row, wishes, node_width, gap)
    left = min((box.x - _width(box, node_width) / 2 for box in boxes.values()), default=0.0)
    for box in boxes.values():
        box.x = round(box.x - left + MARGIN, 1)


def _spread(row: list[Box], wishes: list[float], node_width: float, gap: float) -> None:
    """Give each node the place it wishes for, pushing neighbours apart evenly (order is kept)."""
    offsets = [0.0]
    for one, other in pairwise(row):
        offsets.append(offsets[-1] + (_width(one, node_width) + _width(other, node_width)) / 2 + gap)
    # With the offsets taken off, "no overlap" reads "not decreasing": pool neighbours that break it (isotonic regression).
    groups: list[list[float]] = []
    for wish, offset in zip(wishes, offsets, strict=True):
        groups.append([wish - offset])
        while len(groups) > 1 and _mean(groups[-2], 0.0) > _mean(groups[-1], 0.0):
            groups[-2:] = [groups[-2] + groups[-1]]
    level = [_mean(group, 0.0) for group in groups for _ in group]
    for box, base, offset in zip(row, level, offsets, strict=True):
        box.x = base + offset


def _path(chain: list[Box], node_height: float) -> str:
    """A smooth path from the lower border of the first node to the upper border of the last."""
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
