"""Step check_data: training again is worth it once enough samples came after the last mixture."""

from datetime import UTC, datetime, timedelta

import pytest

from mm1.data.features.new_data import LastMix, record_mix
from mm1.data.features.rows import push_raw
from mm1.errors import Outcome
from mm1.manifests import digest_of_manifest
from mm1.store.open import open_store
from mm1_components.check_data import STEP
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.execute import execute
from tests.support.mixtures import build_mix

NOW = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def data(tmp_path):
    store = open_store(str(tmp_path / "store"))
    raw, _ = build_mix(store, tmp_path / "work", weights={"captions": 0.5, "text": 0.5})
    push_raw(store, raw, NOW)
    return store, f"{store.uri}/manifests/{digest_of_manifest(raw)}.json"


def check(folder, uri, **inputs):
    places = [f"--out.{name}={folder / name}" for name in ("decision", "new_shards", "new_samples")]
    options = [f"--{name.replace('_', '-')}={value}" for name, value in inputs.items()]
    places += [f"--artifact.summary.md={folder / 'summary.md'}", f"--store={folder / 'store'}"]
    outcome = execute(STEP, build_parser(STEP).parse_args([f"--data={uri}", *options, *places]))
    return outcome, (folder / "decision").read_text() if outcome is Outcome.DONE else ""


def test_before_the_first_mixture_all_data_are_new(data, tmp_path):
    assert check(tmp_path, data[1], sources="captions text") == (Outcome.DONE, "retrain")
    assert (tmp_path / "new_samples").read_text() == "100"
    assert "100 samples" in (tmp_path / "summary.md").read_text()


def test_it_asks_anew_each_time_and_waits_until_enough_came(data, tmp_path):
    store, uri = data
    assert check(tmp_path, uri, sources="captions text", min_samples=101)[1] == "wait"
    record_mix(store, ["captions", "text"], LastMix("a" * 64, NOW + timedelta(hours=1)))
    assert check(tmp_path, uri, sources="captions text")[1] == "wait"
    record_mix(store, ["captions", "text"], LastMix("a" * 64, NOW - timedelta(hours=1)))
    assert check(tmp_path, uri, sources="captions text", min_samples=100)[1] == "retrain"


def test_a_source_that_the_data_lack_is_refused(data, tmp_path, caplog):
    assert check(tmp_path, data[1], sources="captions videos")[0] is Outcome.CONFIGURATION
    assert "unknown source 'videos'" in caplog.text
    assert check(tmp_path, data[1], sources="captions interleaved")[0] is Outcome.CONFIGURATION
    assert "the data has no source 'interleaved'" in caplog.text
