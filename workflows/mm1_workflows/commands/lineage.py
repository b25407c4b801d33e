"""``mm1 lineage``: what a manifest was made from."""

from __future__ import annotations

import html
import json
import re

from rich.markup import escape
from rich.tree import Tree

from mm1.errors import ConfigurationError
from mm1.manifests import MANIFEST_NAME, Checkpoint, DataMix, EvalReport, GateDecision, Manifest, RawData, ancestors
from mm1.store.base import Store
from mm1.store.local import atomic_path
from mm1.store.open import open_store
from mm1_workflows import records
from mm1_workflows.commands.output import console, say
from mm1_workflows.tree.looking import Lineage

Graph = dict[str, Manifest]


def lineage(command: Lineage) -> int:
    """Print the tree of ancestors; optionally draw it."""
    shown = console()
    match = MANIFEST_NAME.match(command.uri)
    store = open_store(match["store"] if match else command.store)
    digests = [match["digest"]] if match else resolve(store, command.uri)
    graph: Graph = {}
    for digest in digests:
        found = ancestors(store, digest)
        graph |= found
        shown.print(tree(digest, found))
    for path, text in ((command.dot, dot(graph)), (command.html, page(digests, graph))):
        if path:
            with atomic_path(path) as temporary:
                temporary.write_text(text)
            say(shown, f"written: {path}")
    return 0


def resolve(store: Store, word: str) -> list[str]:
    """Digests that a digest, its beginning, or a run's name stands for.

    Raises:
        ConfigurationError: nothing, or several manifests.
    """
    if re.fullmatch(r"[0-9a-f]{6,64}", word):
        names = [key.removeprefix("manifests/").removesuffix(".json") for key in store.list(f"manifests/{word}")]
        if len(names) == 1:
            return names
        if names:
            raise ConfigurationError(f"{word} stands for {len(names)} manifests: write more of the digest")
    made = records.outputs(records.read_run(store, word))
    found = [match["digest"] for uri in made.values() if (match := MANIFEST_NAME.match(uri))]
    if not found:
        raise ConfigurationError(f"run {word!r} has made no manifest yet")
    # only what nothing else of the run was made from: the rest appears below it
    parents = {parent for digest in found for manifest in ancestors(store, digest).values() for parent in manifest.parents}
    return list(dict.fromkeys(digest for digest in found if digest not in parents))


def describe(manifest: Manifest) -> str:
    """A manifest in a few words."""
    if isinstance(manifest, RawData):
        return ", ".join(f"{name} {source.num_samples:,} samples" for name, source in manifest.sources.items())
    if isinstance(manifest, DataMix):
        return ", ".join(f"{source.name} {source.weight:.0%}" for source in manifest.sources)
    if isinstance(manifest, Checkpoint):
        return (
            f"{manifest.recipe}, {manifest.step} steps, {manifest.tokens_seen:,} tokens, {manifest.num_parameters:,} parameters"
        )
    if isinstance(manifest, EvalReport):
        return f"{len(manifest.scores)} scores"
    if isinstance(manifest, GateDecision):
        return f"{manifest.decision}: {sum(rule.passed for rule in manifest.rules)} of {len(manifest.rules)} rules"
    return ""


def tree(digest: str, graph: Graph) -> Tree:
    """The ancestors as a tree; a manifest that appears twice is spelt out once."""
    seen: set[str] = set()

    def grow(current: str) -> Tree:
        manifest = graph[current]
        words = escape(describe(manifest))
        node = Tree(f"[bold]{type(manifest).__name__}[/bold] [cyan]{current[:12]}[/cyan]  [dim]{words}[/dim]")
        if current in seen:
            if manifest.parents:
                node.add("[dim](as above)[/dim]")
            return node
        seen.add(current)
        for parent in manifest.parents:
            node.add(grow(parent))
        return node

    return grow(digest)


def dot(graph: Graph) -> str:
    """The graph for Graphviz."""
    lines = ["digraph lineage {", "  rankdir=LR;", "  node [shape=box, style=rounded, fontname=sans];"]
    for digest, manifest in graph.items():
        label = f"{type(manifest).__name__}\\n{digest[:12]}\\n{describe(manifest)}"
        lines.append(f'  "{digest}" [label={json.dumps(label).replace(chr(92) * 2 + "n", chr(92) + "n")}];')
        lines += [f'  "{parent}" -> "{digest}";' for parent in manifest.parents]
    return "\n".join([*lines, "}"]) + "\n"


_BOX_WIDTH, _BOX_HEIGHT, _GAP_X, _GAP_Y = 300, 58, 60, 22
_STYLE = """
:root { color-scheme: light dark; --line: #8a8f98; --box: #f4f5f7; --text: #1d2129; --soft: #5b626d }
@media (prefers-color-scheme: dark) { :root { --box: #22262d; --text: #e8eaed; --soft: #9aa2ad } body { background: #15181c } }
body { font: 14px/1.4 system-ui, sans-serif; color: var(--text); margin: 2rem; overflow-x: auto }
rect { fill: var(--box); stroke: var(--line); rx: 8 } text { fill: var(--text) } .soft { fill: var(--soft); font-size: 12px }
path { fill: none; stroke: var(--line); stroke-width: 1.5 }
"""


def page(digests: list[str], graph: Graph) -> str:
    """The graph as a self-contained HTML page: one column per generation, raw data on the left."""
    depth = _depths(graph)
    columns: dict[int, list[str]] = {}
    for digest in sorted(graph, key=lambda item: (depth[item], item)):
        columns.setdefault(depth[digest], []).append(digest)
    place = {
        digest: (column * (_BOX_WIDTH + _GAP_X), row * (_BOX_HEIGHT + _GAP_Y))
        for column, members in columns.items()
        for row, digest in enumerate(members)
    }
    shapes = []
    for digest, manifest in graph.items():
        x, y = place[digest]
        for parent in manifest.parents:
            px, py = place[parent][0] + _BOX_WIDTH, place[parent][1] + _BOX_HEIGHT / 2
            bend = (px + x) / 2
            shapes.append(f'<path d="M{px} {py} C{bend} {py} {bend} {y + _BOX_HEIGHT / 2} {x} {y + _BOX_HEIGHT / 2}"/>')
        words = html.escape(describe(manifest))
        short = words if len(words) <= 46 else words[:45] + "…"
        shapes.append(
            f'<g><title>{digest}\n{words}</title><rect x="{x}" y="{y}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}"/>'
            f'<text x="{x + 12}" y="{y + 23}"><tspan font-weight="600">{type(manifest).__name__}</tspan> {digest[:12]}</text>'
            f'<text class="soft" x="{x + 12}" y="{y + 43}">{short}</text></g>'
        )
    width = max(x for x, _ in place.values()) + _BOX_WIDTH + 2
    height = max(y for _, y in place.values()) + _BOX_HEIGHT + 2
    title = f"Lineage of {', '.join(digest[:12] for digest in digests)}"
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
        f'<svg role="img" aria-label="{title}" width="{width}" height="{height}" viewBox="-1 -1 {width} {height}">'
        f"{''.join(shapes)}</svg></html>\n"
    )


def _depths(graph: Graph) -> dict[str, int]:
    depth: dict[str, int] = {}

    def of(digest: str) -> int:
        if digest not in depth:
            depth[digest] = 1 + max((of(parent) for parent in graph[digest].parents), default=-1)
        return depth[digest]

    for digest in graph:
        of(digest)
    return depth
