"""Names in a mixture: a source (``captions``), or a sub-source of it (``captions/cc12m``).

A sub-source is the shards of one group, which ingest takes from the folders of the raw files. Next to sub-sources, the name of
the source stands for its remaining shards.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from mm1.config.resolve import suggest
from mm1.errors import ConfigurationError
from mm1.manifests import RawData, Shard


def parent_of(name: str) -> str:
    """Return the source of a name: ``captions`` of ``captions/cc12m``."""
    return name.partition("/")[0]


def group_of(name: str) -> str:
    """Return the group of a sub-source; empty for a source."""
    return name.partition("/")[2]


def names_of(source: str, names: Collection[str]) -> list[str]:
    """Return the names in a mixture of a source: its own, or those of its groups, whose losses are averaged."""
    own = [name for name in names if name == source]
    return own or [name for name in names if parent_of(name) == source]


def named_shards(raw: RawData, name: str, names: Iterable[str] = ()) -> list[Shard]:
    """List the shards of a source or sub-source.

    Args:
        raw: the data.
        name: the source or sub-source.
        names: all names of the mixture; their sub-sources are no part of a source's remaining shards.
    """
    shards = raw.sources[parent_of(name)].shards
    if group := group_of(name):
        return [shard for shard in shards if shard.group == group]
    taken = {group_of(other) for other in names if parent_of(other) == name} - {""}
    return [shard for shard in shards if shard.group not in taken]


def groups_of(shards: Sequence[Shard]) -> list[str]:
    """List the groups of shards, sorted; the empty group is omitted."""
    return sorted({shard.group for shard in shards} - {""})


def samples_by_group(raw: RawData, source: str) -> dict[str, int]:
    """Count the samples of each group of a source; the empty group is omitted."""
    shards = raw.sources[source].shards
    return {group: sum(shard.num_samples for shard in shards if shard.group == group) for group in groups_of(shards)}


def check_names_in(raw: RawData, field: str, names: Iterable[str]) -> None:
    """Check that the data has these sources and sub-sources.

    Args:
        raw: the data.
        field: name of the input, for the message.
        names: the names.

    Raises:
        ConfigurationError: the data lacks one of them.
    """
    for name in names:
        if parent_of(name) not in raw.sources:
            raise ConfigurationError(f"{field}: the data has no source {parent_of(name)!r}, only {', '.join(raw.sources)}")
        parent, group, groups = parent_of(name), group_of(name), groups_of(raw.sources[parent_of(name)].shards)
        if group and group not in groups:
            remedy = suggest(group, groups) if groups else f"its files are in no subfolders: name {parent!r} itself"
            raise ConfigurationError(f"{field}: {name!r}: {parent} has no subfolder {group!r}; {remedy}")
