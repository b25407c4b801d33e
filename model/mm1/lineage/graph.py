"""The graph of manifests and their parents, back to the raw data."""

from __future__ import annotations

import json
import re

from mm1.errors import ConfigurationError
from mm1.lineage.records import read_run
from mm1.lineage.text import count
from mm1.manifests import (
    MANIFEST_NAME,
    Checkpoint,
    DataMix,
    Deployment,
    EvalReport,
    GateDecision,
    Manifest,
    RawData,
    load_digest,
)
from mm1.store.base import Store

Lineage = dict[str, Manifest]
"""Digest -> manifest."""


def ancestors(store: Store, digest: str) -> Lineage:
    """Load a manifest and all its ancestors, nearest first."""
    result: Lineage = {}
    queue = [digest]
    while queue:
        current = queue.pop(0)
        if current not in result:
            result[current] = load_digest(store, current)
            queue.extend(result[current].parents)
    return result


def resolve(store: Store, word: str) -> list[str]:
    """Resolve a digest, a prefix of one, or a run's name to digests.

    A served model's name with its digest, ``mm1@1a2b3c4d5e6f``, counts as the digest.

    Raises:
        ConfigurationError: no match, or an ambiguous prefix.
    """
    word = re.sub(r"^[^@]*@(?=[0-9a-f]{6,64}$)", "", word)
    if re.fullmatch(r"[0-9a-f]{6,64}", word):
        names = [key.removeprefix("manifests/").removesuffix(".json") for key in store.list(f"manifests/{word}")]
        if len(names) == 1:
            return names
        if names:
            raise ConfigurationError(f"{word} matches {len(names)} manifests: give more of its digits")
    uris = read_run(store, word).manifests.values()
    made = [match["digest"] for uri in uris if (match := MANIFEST_NAME.match(uri))]
    if not made:
        raise ConfigurationError(f"run {word!r} has no manifests yet")
    # only the run's final results: everything else is among their ancestors
    parents = {parent for digest in made for manifest in ancestors(store, digest).values() for parent in manifest.parents}
    return list(dict.fromkeys(digest for digest in made if digest not in parents))


def describe(manifest: Manifest) -> str:
    """Describe a manifest in a few words, to tell it from others of its kind."""
    match manifest:
        case RawData():
            return ", ".join(f"{name} {source.num_samples:,} samples" for name, source in manifest.sources.items())
        case DataMix():
            return ", ".join(f"{source.name} {source.weight:.0%}" for source in manifest.sources if source.weight)
        case Checkpoint():
            return f"{manifest.stage}, {manifest.step} steps, {manifest.tokens_seen:,} tokens, recipe {manifest.recipe}"
        case EvalReport():
            return count(len(manifest.scores), "score")
        case GateDecision():
            return f"{manifest.decision}: {count(sum(rule.passed for rule in manifest.rules), 'rule', len(manifest.rules))}"
        case Deployment():
            return "deployed" if manifest.deployed else f"not deployed: {manifest.reason}"
        case _:
            return ""


def to_dot(lineage: Lineage) -> str:
    """Convert the graph to Graphviz's DOT language."""
    lines = ["digraph lineage {", "  rankdir=LR;", "  node [shape=box, style=rounded, fontname=sans];"]
    for digest, manifest in lineage.items():
        label = "\\n".join(json.dumps(text)[1:-1] for text in (type(manifest).__name__, digest[:12], describe(manifest)))
        lines.append(f'  "{digest}" [label="{label}"];')
        lines += [f'  "{parent}" -> "{digest}";' for parent in manifest.parents]
    return "\n".join([*lines, "}"]) + "\n"
