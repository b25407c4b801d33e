"""Selection of shards for a mixture: Feast's point-in-time join, followed by thresholds on the features.

shards of a RawData + as_of -> Feast get_historical_features -> feature values -> thresholds -> selected shards
"""

from __future__ import annotations

import logging
import operator
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from mm1.config.resolve import suggest
from mm1.config.values import parse_number, quoted
from mm1.data.features.columns import EVENT, VIEW_OF
from mm1.data.features.rows import gather_rows, source_key
from mm1.data.source_names import named_shards, parent_of
from mm1.errors import ConfigurationError
from mm1.manifests import RawData, digest_of_manifest
from mm1.store.base import Store

_THRESHOLD = re.compile(r"(?P<feature>[a-z_]+)(?P<sign><=|>=|<|>)(?P<value>.+)")
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
FIRST_YEAR, LAST_YEAR = 1970, 2261
"""Feast's tables store times as 64-bit nanoseconds, which end in 2262."""


class Threshold(NamedTuple):
    """A condition on a feature of a shard."""

    feature: str
    sign: str
    value: float

    def holds(self, value: float | None) -> bool:
        """Whether a value meets the condition; missing values do not."""
        return value is not None and _SIGNS[self.sign](value, self.value)

    def __str__(self) -> str:
        return f"{self.feature}{self.sign}{self.value:g}"


def parse_thresholds(text: str) -> list[Threshold]:
    """Parse ``quality>=0.5 duplicate_rate<=0.2``.

    Raises:
        ConfigurationError: malformed threshold, or unknown feature.
    """
    return [_parse_threshold(word) for word in text.split()]


def _parse_threshold(text: str) -> Threshold:
    match = _THRESHOLD.fullmatch(text)
    if not match:
        raise ConfigurationError(f"thresholds: expected feature>=number, for example quality>=0.5, got {quoted(text)}")
    if match["feature"] not in VIEW_OF:
        raise ConfigurationError(
            f"thresholds: unknown feature {match['feature']!r}; {suggest(match['feature'], list(VIEW_OF))}"
        )
    try:
        return Threshold(match["feature"], match["sign"], parse_number(match["value"]))
    except ValueError as error:
        raise ConfigurationError(f"thresholds: {quoted(text)}: {error}") from None


def parse_time(text: str) -> datetime:
    """Parse an ISO 8601 time; the default zone is UTC, and an empty text means now.

    Raises:
        ConfigurationError: not a time, or outside the range of 64-bit nanoseconds.
    """
    if not text:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"as_of: expected an ISO 8601 time, for example 2026-01-31T12:00:00+00:00, got {quoted(text)}"
        ) from None
    if not FIRST_YEAR <= time.year <= LAST_YEAR:
        raise ConfigurationError(f"as_of: expected a year from {FIRST_YEAR} to {LAST_YEAR}, got {quoted(text)}")
    return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)


def choose_shards(
    store: Store, raw: RawData, sources: Sequence[str], thresholds: Sequence[Threshold], as_of: datetime
) -> dict[str, list[str]]:
    """Select the shards of each source that were recorded and met all thresholds at a given time.

    Args:
        store: the store with the data and the feature rows.
        raw: the data.
        sources: names of the sources and sub-sources to include.
        thresholds: conditions that must all hold.
        as_of: the point in time.

    Returns:
        Source -> SHA-256 of the selected tars, in the order of the data.

    Raises:
        ConfigurationError: a source has no shards left.
    """
    digest = digest_of_manifest(raw)
    tars = {name: [shard.tar.sha256 for shard in named_shards(raw, name, sources)] for name in sources}
    keys = {name: source_key(digest, parent_of(name)) for name in sources}
    entities = [(shard, keys[name]) for name in sources for shard in tars[name]]
    features = dict.fromkeys(["num_samples", *(threshold.feature for threshold in thresholds)])
    with tempfile.TemporaryDirectory(prefix="mm1-features-") as work:
        values = historical_features(store, entities, list(features), as_of, Path(work))
    chosen = {}
    for name, shards in tars.items():
        stays = [shard for shard in shards if _fits(values[shard, keys[name]], thresholds)]
        if not stays:
            conditions = " ".join(map(str, thresholds)) or "being known"
            seen = sum(values[shard, keys[name]]["num_samples"] is not None for shard in shards)
            raise ConfigurationError(
                f"source {name}: none of its {len(shards)} shards meets {conditions} as of "
                f"{as_of.isoformat(timespec='seconds')} ({seen} were recorded by then); "
                "choose other thresholds or a later as_of"
            )
        chosen[name] = stays
    return chosen


def _fits(values: Mapping[str, float | None], thresholds: Sequence[Threshold]) -> bool:
    return values["num_samples"] is not None and all(threshold.holds(values[threshold.feature]) for threshold in thresholds)


def historical_features(
    store: Store, entities: Sequence[tuple[str, str]], features: Sequence[str], as_of: datetime, work: Path
) -> dict[tuple[str, str], dict[str, float | None]]:
    """Query Feast for the features of shards and their sources at a point in time.

    Args:
        store: the store with the feature rows.
        entities: (shard, source) keys.
        features: feature names, of any view.
        as_of: the point in time.
        work: scratch folder for the registry and copies of the rows.

    Returns:
        (shard, source) -> feature -> value; None if unknown.
    """
    rows = gather_rows(store, work / "rows")
    with fast_feast_import():
        import pandas as pd
        from feast import FeatureStore, RepoConfig

        from mm1.data.features.definitions import ENTITY_OF, views

        config = RepoConfig(
            project="mm1",
            provider="local",
            registry=str(work / "registry.db"),
            online_store={"type": "sqlite", "path": str(work / "online.db")},
            offline_store={"type": "file"},
            entity_key_serialization_version=3,
        )
        logging.getLogger("feast.infra.registry").setLevel(logging.WARNING)  # each query announces its new, empty registry
        feast_store = FeatureStore(config=config)
        feast_store.apply([*ENTITY_OF.values(), *views(str(rows))])
        frame = pd.DataFrame(list(dict.fromkeys(entities)), columns=["shard", "source"])
        frame[EVENT] = pd.Timestamp(as_of)
        names = [f"{VIEW_OF[feature]}:{feature}" for feature in features]
        table = feast_store.get_historical_features(entity_df=frame, features=names).to_arrow()
    # Feast omits entities whose rows are all later than as_of
    values: dict[tuple[str, str], dict[str, float | None]] = {key: dict.fromkeys(features) for key in entities}
    for row in table.select(["shard", "source", *features]).to_pylist():
        values[row["shard"], row["source"]] = {feature: _number(row[feature]) for feature in features}
    return values


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


@contextmanager
def fast_feast_import() -> Iterator[None]:
    """Import feast in a third of the time.

    On import, Feast instruments a hundred classes with typeguard (useful only to its developers) and imports torch for one
    optional conversion. Joining tables needs neither.
    """
    if "feast" in sys.modules:
        yield
        return
    import typeguard

    checked, torch = typeguard.typechecked, sys.modules.get("torch")
    typeguard.typechecked = lambda *target, **_: target[0] if target else lambda wrapped: wrapped
    if torch is None:
        sys.modules["torch"] = None  # type: ignore[assignment]  # importing it fails, which Feast handles
    try:
        yield
    finally:
        typeguard.typechecked = checked
        if torch is None:
            del sys.modules["torch"]
