"""The work on parts of ingest in a pool's processes: filter and shard, each done once per store."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel

from mm1.store.base import digest_of
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.raw_data import SourceLocations, SourceOptions, Sources, filtering, preset_of, root_of
from mm1_components.wrapper.sources import Kind, kind_of

if TYPE_CHECKING:
    from mm1.data.prepare.files.raw import Fetch
    from mm1.data.prepare.locations.roots import RawRoot
    from mm1.manifests import FilteredPart, ManifestT, MergedParts, RawPart, ShardedPart

log = logging.getLogger(__name__)


class Work(NamedTuple):
    """Settings of a step, for the worker processes."""

    inputs: SourceOptions
    """Sources or SourceLocations; only options for sharding."""
    preset: str
    store: str
    code: str
    folder: Path
    tokenizer: Path | None
    use_cache: bool = True
    """Whether parts that the store remembers are used."""

    def root(self, source: str) -> RawRoot:
        """Open a source, once per process."""
        assert isinstance(self.inputs, Sources | SourceLocations), "only filtering reads raw files"
        return _root(self.inputs, source, self.folder / source)


@cache
def _root(inputs: Sources | SourceLocations, source: str, folder: Path) -> RawRoot:
    """Open a source; a bucket is listed, and the toy world that the plan has generated is not generated again."""
    from mm1.data.prepare.locations.roots import LocalRoot

    written = folder / f"world-{source}"
    is_world = kind_of(getattr(inputs, source)) is Kind.WORLD
    return LocalRoot(written) if is_world and written.exists() else root_of(inputs, source, folder)


def filter_one(task: tuple[Work, RawPart]) -> FilteredPart:
    """Filter a part, unless the store has the result."""
    from mm1.data.prepare.meter import Meter
    from mm1.data.prepare.pipeline import filter_part
    from mm1.manifests import FilteredPart, digest_of_manifest
    from mm1.store.open import open_store
    from mm1_components.parts.progress import report, skip

    work, part = task
    preset = preset_of(work.preset, getattr(work.inputs, part.source))
    how = filtering(preset, work.tokenizer, work.inputs, part.source)
    is_made = False

    def make() -> FilteredPart:
        nonlocal is_made
        is_made = True
        folder = work.folder / "filtered"
        filtered = filter_part(open_store(work.store), part, work.root(part.source), how, folder, Meter(report))
        _log_fetched(part, how.options.fetch)
        return filtered

    template = [how.options.template.text] if how.options.template else []
    decisive = [digest_of_manifest(part), how.preset, *how.reserved, _options(work.inputs), *template]
    filtered = remembered(work, "filter", decisive, FilteredPart, make)
    if not is_made:
        skip(sum(file.num_bytes for file in part.files))
    return filtered


def _log_fetched(part: RawPart, fetch: Fetch | None) -> None:
    from mm1.data.prepare.locations.fetch import Fetcher

    if isinstance(fetch, Fetcher) and fetch.num_fetched + fetch.num_failed:
        log.info("%s, %s: images %s", part.source, part.label, fetch.report())


def shard_one(task: tuple[Work, MergedParts, FilteredPart]) -> ShardedPart:
    """Shard a part, unless the store has the result."""
    from mm1.data.prepare.pipeline import shard_part
    from mm1.manifests import ShardedPart, digest_of_manifest
    from mm1.store.open import open_store

    work, merged, part = task
    decisive = [digest_of_manifest(merged), digest_of_manifest(part)]

    def make() -> ShardedPart:
        return shard_part(open_store(work.store), merged, part, work.folder / "sharded")

    return remembered(work, "shard", decisive, ShardedPart, make)


def _options(inputs: SourceOptions) -> str:
    """Return how files are read, for the key of a part."""
    return repr([(name, getattr(inputs, name)) for name in SourceOptions.model_fields])


def remembered(work: Work, name: str, decisive: list[str], kind: type[ManifestT], make: Callable[[], ManifestT]) -> ManifestT:
    """Return the result for a part, computed once per store; its entry is next to those of the step cache."""
    from mm1.manifests import publish
    from mm1.store.open import open_store
    from mm1_components.wrapper.entries import entry_name, recall, remember

    store = open_store(work.store)
    entry = entry_name("ingest_parts", digest_of(repr((name, work.code, decisive)).encode()))
    if work.use_cache and (result := recall(store, entry, Part, kind.__name__)) and isinstance(result.manifest, kind):
        return result.manifest
    made = make()
    remember(store, entry, {"manifest": publish(store, made)}, {}, work.code)
    return made


class Part(BaseModel):
    """Outputs of the work on a part."""

    manifest: ManifestUri
