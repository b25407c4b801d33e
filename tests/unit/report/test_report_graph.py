"""Layout of the lineage diagram."""

from __future__ import annotations

import re
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from mm1.report.graph import Drawing, layered

names = st.integers(1, 9).map(lambda count: [f"n{number}" for number in range(count)])
graphs = names.flatmap(
    lambda nodes: st.tuples(st.just(nodes), st.lists(st.tuples(st.sampled_from(nodes), st.sampled_from(nodes)), max_size=16))
)


def layout_of(graph: tuple[list[str], list[tuple[str, str]]]) -> Drawing:
    return layered(*graph)


@settings(max_examples=80, deadline=None)
@given(graphs)
def test_boxes_lie_apart_and_within_the_canvas(graph: tuple[list[str], list[tuple[str, str]]]) -> None:
    layout = layout_of(graph)
    assert sorted(box.name for box in layout.boxes) == sorted(graph[0])
    for box in layout.boxes:
        assert box.x - layout.node_width / 2 >= 0
        assert box.x + layout.node_width / 2 <= layout.width
        assert 0 <= box.y <= layout.height - layout.node_height
    for one, other in combinations(layout.boxes, 2):
        apart = abs(one.x - other.x) >= layout.node_width or abs(one.y - other.y) >= layout.node_height
        assert apart, f"{one.name} and {other.name} overlap"


@settings(max_examples=80, deadline=None)
@given(graphs)
def test_edges_lead_down_and_none_is_lost_but_those_of_circles(graph: tuple[list[str], list[tuple[str, str]]]) -> None:
    layout = layout_of(graph)
    place = {box.name: box for box in layout.boxes}
    for line in layout.lines:
        source, target = place[line.source], place[line.target]
        assert source.y < target.y
        numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", line.path)]
        assert abs(numbers[0] - source.x) < 0.01 and abs(numbers[-2] - target.x) < 0.1
        assert abs(numbers[-1] - target.y) < 0.01
    forward = {(a, b) for a, b in graph[1] if int(a[1:]) < int(b[1:])}
    if all(int(a[1:]) < int(b[1:]) for a, b in graph[1]):
        assert {(line.source, line.target) for line in layout.lines} == forward


def test_long_edge_goes_around_the_node_between() -> None:
    layout = layered(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c")])
    middle = next(box for box in layout.boxes if box.name == "b")
    long = next(line for line in layout.lines if (line.source, line.target) == ("a", "c"))
    x_between = float(re.findall(r"L(-?[\d.]+),", long.path)[0])
    assert abs(x_between - middle.x) > layout.node_width / 2


def test_unknown_nodes_and_empty_graphs_are_no_error() -> None:
    assert layered([], [("a", "b")]).boxes == []
    assert layered(["a"], [("a", "b"), ("a", "a")]).lines == []
