"""Draw the modules of an environment and their dependencies from Terraform's graph: ``terraform graph | python infra/draw.py``.

Run it in an initialised ``infra/terraform/modules/aws/environment``; it writes ``docs/architecture/infrastructure-aws.svg``.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape

from mm1.report.graph import layered

FILE = Path(__file__).parents[1] / "docs/architecture/infrastructure-aws.svg"
EDGE = re.compile(r'"(?P<source>module\.[^"]+)" -> "(?P<target>module\.[^"]+)";')
NODE = re.compile(r'^\s*"module\.(?P<module>\w+)\.(?P<type>aws_\w+)\.\w+" \[label', re.MULTILINE)
WIDTH, HEIGHT, LINE = 250, 30, 14
STYLE = (
    "svg{background:#fff;font:13px system-ui,sans-serif}rect{fill:#fff;stroke:#a8562b;stroke-width:1.5}text{fill:#1d2129}"
    ".note{fill:#5b626d;font-size:10px}.title{font-weight:600}.edge{fill:none;stroke:#8a8f98;marker-end:url(#a)}"
)


def svg(graph: str) -> str:
    """Return the picture of a graph in DOT: a box per module with its resources, and an arrow to each module that it needs."""
    resources: dict[str, Counter[str]] = {}
    for match in NODE.finditer(graph):
        resources.setdefault(match["module"], Counter())[match["type"].removeprefix("aws_")] += 1
    pairs = {(match["source"].split(".")[1], match["target"].split(".")[1]) for match in EDGE.finditer(graph)}
    edges = sorted((source, target) for source, target in pairs if source != target)
    tallest = HEIGHT + LINE * max(len(types) for types in resources.values())
    drawing = layered(sorted(resources), edges, node_width=WIDTH, node_height=tallest, gap=24, layer_gap=40)
    shapes = [f'<path class="edge" d="{line.path}"/>' for line in drawing.lines]
    for box in drawing.boxes:
        x, y = box.x - WIDTH / 2, box.y
        shapes.append(f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{tallest}" rx="6"/>')
        shapes.append(f'<text class="title" x="{x + 9:g}" y="{y + 19:g}">{escape(box.name)}</text>')
        for number, (kind, count) in enumerate(sorted(resources[box.name].items())):
            text = kind if count == 1 else f"{kind} ({count})"
            shapes.append(f'<text class="note" x="{x + 9:g}" y="{y + 36 + LINE * number:g}">{escape(text)}</text>')
    size = f'viewBox="0 0 {drawing.width:g} {drawing.height:g}" width="{drawing.width:g}" height="{drawing.height:g}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="modules of an environment on AWS">'
    arrow = (
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#8a8f98"/></marker></defs>'
    )
    return "\n".join([head, f"<style>{STYLE}</style>", arrow, *shapes, "</svg>"]) + "\n"


if __name__ == "__main__":
    FILE.write_text(svg(sys.stdin.read()), encoding="utf-8")
