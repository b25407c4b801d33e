"""Draws docs/architecture/packages.svg from the code: packages, who imports whom, and three journeys through them.

``make architecture`` writes the picture; ``make drift`` fails when it differs from the code. Arrows that follow from others are
left out. Every function of a journey must exist.
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import grimp

from mm1.report.graph import Drawing, layered

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SOURCES = {"mm1": "model", "mm1_components": "components", "mm1_workflows": "workflows"}
LABELS = {"mm1_components": "steps", "mm1": "", "mm1_workflows": ""}
COLOURS = {"mm1": "#2563a8", "mm1_components": "#4a7c3a", "mm1_workflows": "#a8562b"}
JOURNEYS = {
    "An image to the loss": (
        "mm1_components.ingest:run",
        "mm1.data.prepare.pipeline:filter_part",
        "mm1.data.prepare.filters:Filters",
        "mm1.data.shards:ShardWriter",
        "mm1_components.data_mix:run",
        "mm1.data.load.sequences:MixturePlan",
        "mm1.data.load.loader:MixtureLoader",
        "mm1.data.load.collate:Collator",
        "mm1.train.step:TrainStep",
        "mm1.modeling.modeling:MM1ForConditionalGeneration",
        "mm1.modeling.losses:next_token_loss",
    ),
    "A parameter to the trainer": (
        "mm1_workflows.cli.commands.submit:Command",
        "mm1_workflows.authoring.load:load",
        "mm1_workflows.rules.reading:read_workflow",
        "mm1_workflows.argo.parameters:check",
        "mm1_workflows.rules.values:check_values",
        "mm1_components.wrapper.arguments:input_values",
        "mm1_components.wrapper.execute:execute",
        "mm1_components.ranks.stage:run_stage",
        "mm1.config.resolve:resolve",
        "mm1_components.ranks.train:train",
        "mm1.train.build:build_run",
    ),
    "An exit code to the command line": (
        "mm1.errors:DivergedError",
        "mm1.train.__main__:run",
        "mm1_components.ranks.torchrun:run_ranks",
        "mm1_components.ranks.node:main",
        "mm1.errors:cause",
        "mm1_components.ranks.jobset.supervisor:supervise",
        "mm1_components.wrapper.execute:main",
        "mm1_workflows.cluster.following.outcome:ending_of",
        "mm1_workflows.cluster.following.follow:follow",
        "mm1_workflows.cli:main",
    ),
}
"""Name -> the functions and classes that it passes, in order."""
NODE_WIDTH, NODE_HEIGHT = 132.0, 30.0
STOP_WIDTH, STOP_HEIGHT, STOPS_IN_A_ROW = 242.0, 40.0, 5


@dataclass(frozen=True)
class Picture:
    """Shapes, and how much room they take."""

    shapes: list[str]
    width: float
    height: float


def package_of(module: str) -> str:
    """The package that a module is drawn in: two names deep; the steps together."""
    top, *rest = module.split(".")
    if top == "mm1_components" and (not rest or rest[0] not in ("ranks", "wrapper")):
        return top
    return ".".join([top, *rest[:1]])


def package_edges() -> tuple[list[str], list[tuple[str, str]]]:
    """Packages, and who imports whom, without arrows that follow from others."""
    graph = grimp.build_graph(*SOURCES, cache_dir=None)
    roots = set(SOURCES) - {"mm1_components"}
    packages = sorted({package_of(module) for module in graph.modules} - roots)
    below: dict[str, set[str]] = {package: set() for package in packages}
    for module in graph.modules:
        importer = package_of(module)
        for imported in map(package_of, graph.find_modules_directly_imported_by(module)):
            if importer != imported and importer in below and imported in below:
                below[importer].add(imported)
    return packages, sorted(_reduced(below))


def _reduced(below: dict[str, set[str]]) -> Iterator[tuple[str, str]]:
    """Edges that no longer path stands for."""

    def reaches(start: str) -> set[str]:
        seen: set[str] = set()
        queue = [start]
        while queue:
            for name in below[queue.pop()] - seen:
                seen.add(name)
                queue.append(name)
        return seen

    for source, targets in below.items():
        for target in targets:
            if not any(target in reaches(other) for other in targets - {target}):
                yield source, target


def check_journeys() -> list[str]:
    """Stops of journeys that the code does not have."""
    return [stop for stops in JOURNEYS.values() for stop in stops if not _exists(*stop.split(":"))]


def _exists(module: str, name: str) -> bool:
    path = ROOT / SOURCES[module.split(".")[0]] / Path(*module.split("."))
    file = path.with_suffix(".py") if path.with_suffix(".py").is_file() else path / "__init__.py"
    if not file.is_file():
        return False
    tree = ast.parse(file.read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names}
    return name in defined | imported


def draw_packages() -> Picture:
    """The packages with their arrows, importers above."""
    packages, edges = package_edges()
    drawing: Drawing = layered(packages, edges, node_width=NODE_WIDTH, node_height=NODE_HEIGHT, gap=12, layer_gap=26)
    shapes = [f'<path class="edge" d="{line.path}"/>' for line in drawing.lines]
    for box in drawing.boxes:
        top, _, name = box.name.partition(".")
        shapes.append(_box(box.x - NODE_WIDTH / 2, box.y, NODE_WIDTH, NODE_HEIGHT, name or LABELS[top], COLOURS[top]))
    return Picture(shapes, drawing.width, drawing.height)


def draw_journeys() -> Picture:
    """Each journey as a chain of stops, in rows."""
    shapes: list[str] = []
    y = 0.0
    for title, stops in JOURNEYS.items():
        shapes.append(f'<text class="title" x="4" y="{y + 18:g}">{escape(title)}</text>')
        y += 30
        for number, stop in enumerate(stops):
            row, column = divmod(number, STOPS_IN_A_ROW)
            x, top = column * (STOP_WIDTH + 18) + 4, y + row * (STOP_HEIGHT + 16)
            module, name = stop.split(":")
            colour = COLOURS[module.split(".")[0]]
            if column:
                shapes.append(f'<path class="edge" d="M{x - 18:g},{top + STOP_HEIGHT / 2:g}h16"/>')
            shapes.append(_box(x, top, STOP_WIDTH, STOP_HEIGHT, f"{number + 1}. {name}", colour, module))
        y += -(-len(stops) // STOPS_IN_A_ROW) * (STOP_HEIGHT + 16) + 8
    return Picture(shapes, STOPS_IN_A_ROW * (STOP_WIDTH + 18), y)


def _box(x: float, y: float, width: float, height: float, title: str, colour: str, note: str = "") -> str:
    texts = f'<text x="{x + 9:g}" y="{y + (17 if note else 19):g}">{escape(title)}</text>'
    texts += f'<text class="note" x="{x + 9:g}" y="{y + 32:g}">{escape(note)}</text>' if note else ""
    return f'<g style="--c:{colour}"><rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="6"/>{texts}</g>'


STYLE = (
    "svg{background:#fff;font:13px system-ui,sans-serif}rect{fill:#fff;stroke:var(--c);stroke-width:1.5}text{fill:#1d2129}"
    ".note{fill:#5b626d;font-size:10px}.title{font-weight:600;font-size:15px}.edge{fill:none;stroke:#8a8f98;marker-end:url(#a)}"
)


def svg() -> str:
    """The whole picture."""
    packages, journeys = draw_packages(), draw_journeys()
    width, legend = max(packages.width, journeys.width) + 8, 34
    height = legend + packages.height + 30 + journeys.height
    names = "".join(
        f'<g style="--c:{colour}"><rect x="{4 + 190 * number}" y="6" width="14" height="14" rx="3"/>'
        f'<text x="{24 + 190 * number}" y="18">{name}</text></g>'
        for number, (name, colour) in enumerate(COLOURS.items())
    )
    left = (width - packages.width) / 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        'role="img" aria-label="packages and who imports whom, and three journeys through them">',
        f"<style>{STYLE}</style>",
        '<defs><marker id="a" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0,0 L8,4 L0,8 z" fill="#8a8f98"/></marker></defs>',
        names,
        f'<g transform="translate({left:g},{legend})">',
        *packages.shapes,
        f'</g><g transform="translate(0,{legend + packages.height + 30:g})">',
        *journeys.shapes,
        "</g></svg>",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write the picture, or with --check compare it."""
    parser = argparse.ArgumentParser(description="Draw the packages and the journeys through them.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the picture differs from the code")
    arguments = parser.parse_args()
    if missing := check_journeys():
        sys.stderr.write(f"docs/architecture/draw.py: a journey passes {missing[0]}, which is not there any more: correct it\n")
        return 1
    file = HERE / "packages.svg"
    text = svg()
    if arguments.check and (not file.is_file() or file.read_text() != text):
        sys.stderr.write(f"{file.relative_to(ROOT)} differs from the code: run `make architecture`\n")
        return 1
    if not arguments.check:
        file.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
