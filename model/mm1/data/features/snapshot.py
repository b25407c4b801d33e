"""Which shards enter a mixture: Feast's point-in-time join of what was known at a time, and thresholds on it.

shards of a RawData + as_of -> Feast get_historical_features -> feature values -> thresholds -> shards that stay
"""

from __future__ import annotations

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
"""Feast's tables keep times as nanoseconds in 64 bits, which end in 2262."""


class Threshold(NamedTuple):
    """A condition that a shard must meet."""

    feature: str
    sign: str
    value: float

    def holds(self, known: float | None) -> bool:
        """Whether a value meets it; what is not known does not."""
        return known is not None and _SIGNS[self.sign](known, self.value)

    def __str__(self) -> str:
        return f"{self.feature}{self.sign}{self.value:g}"


def parse_thresholds(text: str) -> list[Threshold]:
    """Read ``quality>=0.5 duplicate_rate<=0.2``.

    Raises:
        ConfigurationError: not of this form, or no such feature.
    """
    return [_parse_threshold(word) for word in text.split()]


def _parse_threshold(text: str) -> Threshold:
    match = _THRESHOLD.fullmatch(text)
    if not match:
        raise ConfigurationError(f"thresholds: {quoted(text)} is not of the form feature>=number, for example quality>=0.5")
    if match["feature"] not in VIEW_OF:
        raise ConfigurationError(f"thresholds: no feature {match['feature']!r}; {suggest(match['feature'], list(VIEW_OF))}")
    try:
        return Threshold(match["feature"], match["sign"], parse_number(match["value"]))
    except ValueError as error:
        raise ConfigurationError(f"thresholds: {quoted(text)}: {error}") from None


def parse_time(text: str) -> datetime:
    """Read a point in time: ISO 8601; without a zone it is UTC, an empty text is now.

    Raises:
        ConfigurationError: not a time, or not one that nanoseconds in 64 bits reach.
    """
    if not text:
        return datetime.now(UTC)
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigurationError(
            f"as_of: {quoted(text)} is not a time in ISO 8601, for example 2026-01-31T12:00:00+00:00"
        ) from None
    if not FIRST_YEAR <= time.year <= LAST_YEAR:
        raise ConfigurationError(f"as_of: expected a year from {FIRST_YEAR} to {LAST_YEAR}, got {quoted(text)}")
    return time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)


def choose_shards(
    store: Store, raw: RawData, sources: Sequence[str], thresholds: Sequence[Threshold], as_of: datetime
) -> dict[str, list[str]]:
    """The shards of each source that were known and met all thresholds at a time.

    Args:
        store: holds the data and the feature rows.
        raw: the data.
        sources: names of the sources that are wanted.
        thresholds: all must hold.
        as_of: the time.

    Returns:
        Source -> SHA-256 of the tars that enter, in the order of the data.

    Raises:
        ConfigurationError: a source has no shard left.
    """
    digest = digest_of_manifest(raw)
    entities = [(shard.tar.sha256, source_key(digest, name)) for name in sources for shard in raw.sources[name].shards]
    features = dict.fromkeys(["num_samples", *(threshold.feature for threshold in thresholds)])
    with tempfile.TemporaryDirectory(prefix="mm1-features-") as work:
        known = historical_features(store, entities, list(features), as_of, Path(work))
    chosen = {}
    for name in sources:
        shards = [shard.tar.sha256 for shard in raw.sources[name].shards]
        stays = [shard for shard in shards if _fits(known[shard, source_key(digest, name)], thresholds)]
        if not stays:
            wanted = " ".join(map(str, thresholds)) or "being known"
            seen = sum(known[shard, source_key(digest, name)]["num_samples"] is not None for shard in shards)
            raise ConfigurationError(
                f"source {name}: none of its {len(shards)} shards meets {wanted} as of {as_of.isoformat(timespec='seconds')} "
                f"({seen} were known then); choose other thresholds or a later as_of"
            )
        chosen[name] = stays
    return chosen


def _fits(known: Mapping[str, float | None], thresholds: Sequence[Threshold]) -> bool:
    return known["num_samples"] is not None and all(threshold.holds(known[threshold.feature]) for threshold in thresholds)


def historical_features(
    store: Store, entities: Sequence[tuple[str, str]], features: Sequence[str], as_of: datetime, work: Path
) -> dict[tuple[str, str], dict[str, float | None]]:
    """What Feast says was known of some shards (and their sources) at a time.

    Args:
        store: holds the feature rows.
        entities: (shard, source) keys.
        features: names of features, of any view.
        as_of: the time.
        work: scratch folder for the registry and copies of the rows.

    Returns:
        (shard, source) -> feature -> value, None where nothing was known.
    """
    rows = gather_rows(store, work / "rows")
    with quick_feast():
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
        feast_store = FeatureStore(config=config)
        feast_store.apply([*ENTITY_OF.values(), *views(str(rows))])
        frame = pd.DataFrame(list(dict.fromkeys(entities)), columns=["shard", "source"])
        frame[EVENT] = pd.Timestamp(as_of)
        names = [f"{VIEW_OF[feature]}:{feature}" for feature in features]
        found = feast_store.get_historical_features(entity_df=frame, features=names).to_arrow()
    # Feast leaves out entities all of whose rows came later than the time asked for
    known: dict[tuple[str, str], dict[str, float | None]] = {key: dict.fromkeys(features) for key in entities}
    for row in found.select(["shard", "source", *features]).to_pylist():
        known[row["shard"], row["source"]] = {feature: _number(row[feature]) for feature in features}
    return known


def _number(value: Any) -> float | None:
    return None if value is None or value != value else float(value)


@contextmanager
def quick_feast() -> Iterator[None]:
    """Import feast in a third of its time.

    On import it has typeguard rewrite some hundred classes (which matters to those who develop Feast) and imports torch for
    one optional conversion; neither is needed to join tables.
    """
    if "feast" in sys.modules:
        yield
        return
    import typeguard

    checked, torch = typeguard.typechecked, sys.modules.get("torch")
    typeguard.typechecked = lambda *target, **_: target[0] if target else lambda wrapped: wrapped
    if torch is None:
        sys.modules["torch"] = None  # type: ignore[assignment]  # an import of it fails, which feast is prepared for
    try:
        yield
    finally:
        typeguard.typechecked = checked
        if torch is None:
            del sys.modules["torch"]
