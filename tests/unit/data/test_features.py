"""The feature store: real Feast joins, points in time, thresholds, what is new since a mixture."""

import logging
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mm1.data.features.columns import COLUMNS, schema_of
from mm1.data.features.new_data import LastMix, last_mix, mix_key, new_data_since, record_mix
from mm1.data.features.rows import fingerprint_of, known_shards, push_raw, push_scores, read_rows, row_keys
from mm1.data.features.snapshot import choose_shards, fast_feast_import, parse_thresholds, parse_time
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import digest_of_manifest
from mm1.store.open import open_store
from tests.support.mixtures import build_mix

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
REPOSITORY = Path(__file__).parents[3] / "model/mm1/data/features/repo"


def with_features(raw, **features):
    sources = {
        name: source.model_copy(
            update={"shards": tuple(shard.model_copy(update={"features": features}) for shard in source.shards)}
        )
        for name, source in raw.sources.items()
    }
    return raw.model_copy(update={"sources": sources})


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Data that became known on day 0, scored better on day 2 and worse on day 4."""
    folder = tmp_path_factory.mktemp("features")
    store = open_store(str(folder / "store"))
    raw, _ = build_mix(store, folder / "work", weights={"captions": 0.5, "text": 0.5})
    raw = with_features(raw, quality=0.5, mean_words=7.0, duplicate_rate=0.1)
    assert push_raw(store, raw, START)
    first, second = [shard.tar.sha256 for shard in raw.sources["captions"].shards][:2]
    push_scores(store, {first: 0.9, second: 0.9}, START + 2 * DAY)
    push_scores(store, {first: 0.1}, START + 4 * DAY)
    return store, raw, first, second


def chosen(known, text, day, sources=("captions",)):
    store, raw, *_ = known
    return choose_shards(store, raw, sources, parse_thresholds(text), START + day * DAY)


def test_without_thresholds_all_known_shards_enter_in_their_order(known):
    _, raw, *_ = known
    found = chosen(known, "", 1, ("captions", "text"))
    assert found == {name: [shard.tar.sha256 for shard in source.shards] for name, source in raw.sources.items()}


def test_a_query_logs_nothing(known, caplog):
    with caplog.at_level(logging.INFO):
        chosen(known, "", 1)
    assert caplog.messages == []


def test_a_later_worse_score_does_not_leak_into_an_earlier_snapshot(known):
    _, _, first, second = known
    assert chosen(known, "quality>=0.8", 3)["captions"] == [
        shard.tar.sha256 for shard in known[1].sources["captions"].shards if shard.tar.sha256 in (first, second)
    ]
    assert chosen(known, "quality>=0.8", 5)["captions"] == [second]
    assert len(chosen(known, "quality>=0.5", 1)["captions"]) == len(known[1].sources["captions"].shards)


def test_thresholds_over_several_views_hold_together(known):
    assert chosen(known, "quality>0.8 num_samples>=1 duplicate_rate<=0.1 source_kept_share>0.9", 5)["captions"] == [known[3]]


def test_what_was_not_known_yet_does_not_enter(known):
    with pytest.raises(ConfigurationError, match=r"captions: none of its \d+ shards .* \(0 were recorded by then\)"):
        chosen(known, "", -1)


def test_no_shard_above_a_threshold_is_an_error_that_says_what_to_do(known):
    with pytest.raises(ConfigurationError, match=r"quality>=0.99 as of 2026-01-06.*other thresholds"):
        chosen(known, "quality>=0.99", 5)


def test_a_feature_that_nobody_measured_lets_no_shard_pass(known):
    with pytest.raises(ConfigurationError, match="mean_image_side_px"):
        chosen(known, "mean_image_side_px>=0", 5)


@pytest.mark.parametrize(
    ("text", "message"), [("quality=0.5", "feature>=number"), ("qualty>=1", "quality"), ("quality>=high", "expected a number")]
)
def test_thresholds_that_cannot_be_read(text, message):
    with pytest.raises(ConfigurationError, match=message):
        parse_thresholds(text)


def test_times_are_utc_unless_they_say_otherwise():
    assert parse_time("2026-01-01") == START
    assert parse_time("2026-01-01T02:00:00+02:00") == START
    assert abs(parse_time("") - datetime.now(UTC)) < timedelta(minutes=1)
    with pytest.raises(ConfigurationError, match="ISO 8601"):
        parse_time("yesterday")


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1600-01-01", "2262-01-01"])
def test_times_that_no_table_holds(text):
    with pytest.raises(ConfigurationError, match="expected a year from 1970 to 2261"):
        parse_time(text)
    parse_time("1970-01-01T00:00:00+14:00")
    parse_time("2261-12-31T23:59:59-14:00")


def test_the_same_data_are_told_once(known):
    store, raw, *_ = known
    state = fingerprint_of(store)
    assert not push_raw(store, raw, START + 9 * DAY)
    assert fingerprint_of(store) == state
    times = set(read_rows(store, "shard_stats", ["event_timestamp"])["event_timestamp"].to_pylist())
    assert times == {START}


def test_scores_must_be_of_known_shards_and_in_range(known):
    store, _, first, _ = known
    with pytest.raises(ConfigurationError, match="unknown shard"):
        push_scores(store, {"f" * 64: 0.5}, START)
    with pytest.raises(ConfigurationError, match="from 0 to 1"):
        push_scores(store, {first: 1.5}, START)


def test_damaged_rows_are_named(tmp_path):
    store = open_store(str(tmp_path))
    store.write("features/shard_stats/x.parquet", b"PAR1 not")
    with pytest.raises(DataError, match=r"features/shard_stats/x\.parquet"):
        known_shards(store)


def test_news_are_the_shards_that_came_after_the_last_mixture(tmp_path):
    store = open_store(str(tmp_path / "store"))
    old, _ = build_mix(store, tmp_path / "a", weights={"captions": 1.0}, seed=1)
    push_raw(store, old, START)
    assert last_mix(store, ["captions"]) is None
    everything = new_data_since(store, old, ["captions"], None)
    assert everything.samples == old.sources["captions"].num_samples
    record_mix(store, ["captions"], LastMix("m" * 64, START + DAY))
    assert new_data_since(store, old, ["captions"], last_mix(store, ["captions"]).as_of) == (0, 0)
    push_scores(store, {old.sources["captions"].shards[0].tar.sha256: 0.2}, START + 2 * DAY)
    assert new_data_since(store, old, ["captions"], START + DAY).shards == 0  # a new score is no new data
    grown, _ = build_mix(store, tmp_path / "b", weights={"captions": 1.0}, per_shard=10)
    grown = grown.model_copy(
        update={
            "sources": {
                "captions": grown.sources["captions"].model_copy(
                    update={"shards": old.sources["captions"].shards + grown.sources["captions"].shards}
                )
            }
        }
    )
    push_raw(store, grown, START + 3 * DAY)
    news = new_data_since(store, grown, ["captions"], START + DAY)
    assert news.shards == len(grown.sources["captions"].shards) - len(old.sources["captions"].shards)
    assert news.samples == 50


def test_a_damaged_pointer_to_the_last_mixture_is_named(tmp_path):
    store = open_store(str(tmp_path))
    store.write(mix_key(["text"]), b"[1]")
    with pytest.raises(DataError, match=r"mixes/text.json is damaged"):
        last_mix(store, ["text"])


def test_rows_name_data_and_carry_the_schema(known):
    store, raw, *_ = known
    assert row_keys(store, "source_stats") == [f"features/source_stats/{digest_of_manifest(raw)}.parquet"]
    for view in COLUMNS:
        for key in row_keys(store, view):
            assert pq.read_schema(store.root / key).equals(schema_of(view))


APPLY = """
import sys, typeguard
from mm1.data.features.snapshot import fast_feast_import
before = typeguard.typechecked
with fast_feast_import():
    from feast.cli.cli import cli
assert typeguard.typechecked is before and "torch" not in sys.modules
cli(["-c", sys.argv[1], "apply"])
"""


def test_feast_apply_accepts_the_repository_and_answers_from_it(known, tmp_path):
    """The repository's own files, only its rows and registry moved: feast apply, then sqlite answers."""
    store, _, first, _ = known
    text = (REPOSITORY / "definitions.py").read_text()
    line = next(line for line in text.splitlines() if line.startswith("ROWS ="))
    (tmp_path / "definitions.py").write_text(text.replace(line, f"ROWS = {str(store.root / 'features')!r}"))
    settings = (REPOSITORY / "feature_store.yaml").read_text().replace("../../../../../runs/features", str(tmp_path))
    (tmp_path / "feature_store.yaml").write_text(settings)
    applied = subprocess.run([sys.executable, "-c", APPLY, str(tmp_path)], capture_output=True, text=True, timeout=240)
    assert applied.returncode == 0, applied.stderr
    with fast_feast_import():
        from feast import FeatureStore

        feast_store = FeatureStore(repo_path=str(tmp_path))
        assert {view.name for view in feast_store.list_feature_views()} == set(COLUMNS)
        assert {entity.name for entity in feast_store.list_entities()} >= {"shard", "source"}
        feast_store.materialize(START - DAY, START + 9 * DAY, ["shard_quality"])
        rows = [{"shard": first}]
        online = feast_store.get_online_features(features=["shard_quality:quality"], entity_rows=rows).to_dict()
    assert online["quality"] == [pytest.approx(0.1)]
