r"""Collects the data of a run: its records, and the manifests its tasks consumed and produced.

::

    <store>/runs/<run>/*.json --> TaskRecord ... --> edges (which task used whose manifest)
                                       \-> manifest addresses --> manifests and all their ancestors, each with its store

Missing or damaged parts never cause a failure: the report of a broken run is the one that is needed most. Problems are
recorded as sentences and shown on the page.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

from mm1.errors import Mm1Error
from mm1.lineage.records import TaskRecord, read_record
from mm1.manifests import MANIFEST_NAME, Manifest, ReportPage, load_digest
from mm1.store.base import BlobRef, Store
from mm1.store.open import find_store

log = logging.getLogger(__name__)

ManifestT = TypeVar("ManifestT", bound=Manifest)


@dataclass(frozen=True, kw_only=True)
class Edge:
    """``target`` used an output of ``source``."""

    source: str
    target: str
    by_value: bool = False
    """True if a plain value was passed (a decision) instead of a manifest."""


@dataclass(frozen=True, kw_only=True)
class StoredManifest:
    """A manifest and its location."""

    digest: str
    store: Store
    manifest: Manifest | None
    """None if it cannot be read."""
    producer: str = ""
    """The task of this run that produced it; empty for manifests from elsewhere."""


@dataclass(kw_only=True)
class RunStory:
    """All data for a report."""

    run: str
    store: Store
    tasks: list[TaskRecord] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    manifests: dict[str, StoredManifest] = field(default_factory=dict)
    """Digest -> manifest, in the order of the tasks, each followed by its ancestors."""
    problems: list[str] = field(default_factory=list)

    def of(self, kind: type[ManifestT]) -> Iterator[tuple[StoredManifest, ManifestT]]:
        """Yield all manifests of a kind, with their locations."""
        for stored in self.manifests.values():
            if isinstance(stored.manifest, kind):
                yield stored, stored.manifest

    def get(self, digest: str, kind: type[ManifestT]) -> ManifestT | None:
        """Return the manifest with a digest, if it exists and is of that kind."""
        stored = self.manifests.get(digest)
        return stored.manifest if stored and isinstance(stored.manifest, kind) else None


def collect(store: Store, run: str, *, leave_out: str = "") -> RunStory:
    """Collect the data of a run.

    Args:
        store: the store with the run's records.
        run: the run's name.
        leave_out: a task to ignore (the report's own).
    """
    story = RunStory(run=run, store=store)
    story.tasks = [record for record in _records(story) if record.task != leave_out and not record.within]
    story.tasks.sort(key=lambda record: (record.started.timestamp() if record.started else 0.0, record.task))
    story.edges = find_edges(story.tasks)
    producers = {digest: record.task for record in reversed(story.tasks) for digest in _digests(record.outputs)}
    uris = [uri for record in story.tasks for uri in manifest_uris(record.outputs)]
    uris += [uri for record in story.tasks for uri in manifest_uris(record.inputs)]
    for uri in uris:
        _follow(story, uri, producers)
    return story


def artifact(story: RunStory, task: str, name: str) -> BlobRef | None:
    """Find an artifact of a task; a cached task has the artifacts of its original execution.

    Raises:
        Mm1Error: the cache entry is damaged.
        ValueError: the artifact's entry is not a valid reference.
    """
    record = next((record for record in story.tasks if record.task == task), None)
    if record is None:
        return None
    artifacts = record.artifacts
    if record.cache_hit and not artifacts:  # a record of MM1 0.1
        entry = story.store.read_json(f"cache/{record.step}/{record.cache_key}.json")
        artifacts = entry.get("artifacts", {}) if isinstance(entry, dict) else {}
    return BlobRef.model_validate(artifacts[name]) if name in artifacts else None


def manifest_uris(values: dict[str, Any]) -> list[str]:
    """List all addresses of manifests in inputs or outputs; a value may contain several, separated by spaces."""
    addresses = (address for value in values.values() if isinstance(value, str) for address in value.split())
    return [address for address in addresses if MANIFEST_NAME.match(address)]


def find_edges(tasks: list[TaskRecord]) -> list[Edge]:
    """Find dependencies between tasks: by manifest digest, or by a plain value of the same name (``decision``)."""
    edges: dict[tuple[str, str], Edge] = {}
    for target in tasks:
        consumed = _digests(target.inputs)
        for source in tasks:
            if source.task == target.task or not _before(source, target):
                continue
            if consumed & _digests(source.outputs):
                edges[source.task, target.task] = Edge(source=source.task, target=target.task)
            elif _shared_values(source, target):
                edges[source.task, target.task] = Edge(source=source.task, target=target.task, by_value=True)
    return list(edges.values())


def _before(source: TaskRecord, target: TaskRecord) -> bool:
    if source.started is None or target.started is None:
        return True
    return source.started < target.started


def _digests(values: dict[str, Any]) -> set[str]:
    return {match["digest"] for uri in manifest_uris(values) if (match := MANIFEST_NAME.match(uri))}


def _shared_values(source: TaskRecord, target: TaskRecord) -> bool:
    pairs = ((value, target.inputs.get(name)) for name, value in source.outputs.items())
    return any(isinstance(given, str) and given and given == used and not MANIFEST_NAME.match(given) for given, used in pairs)


def _records(story: RunStory) -> Iterator[TaskRecord]:
    for key in story.store.list(f"runs/{story.run}/"):
        if not key.endswith(".json"):
            continue
        try:
            record = read_record(story.store, key)
        except Mm1Error as error:
            story.problems.append(f"run record {key} cannot be read: {str(error).splitlines()[0]}")
            continue
        if not record.superseded:
            yield record


def _follow(story: RunStory, uri: str, producers: dict[str, str]) -> None:
    """Record a manifest and all its ancestors, nearest first."""
    match = MANIFEST_NAME.match(uri)
    if match is None:
        return
    try:
        store = story.store if match["store"] == story.store.uri else find_store(match["store"])
    except Mm1Error as error:
        story.problems.append(f"manifest {match['digest'][:12]} cannot be read: {error}")
        return
    queue = [match["digest"]]
    while queue:
        digest = queue.pop(0)
        if digest in story.manifests:
            continue
        manifest = _read(story, store, digest)
        if isinstance(manifest, ReportPage):
            continue
        story.manifests[digest] = StoredManifest(
            digest=digest, store=store, manifest=manifest, producer=producers.get(digest, "")
        )
        queue.extend(manifest.parents if manifest else ())


def _read(story: RunStory, store: Store, digest: str) -> Manifest | None:
    try:
        return load_digest(store, digest)
    except Mm1Error as error:
        log.warning("manifest %s omitted from the report: %s", digest[:12], error)
        story.problems.append(f"manifest {digest[:12]} cannot be read: {error}")
        return None
