"""Sub-sources: the groups of a source's shards, wherever a mixture's names are used."""

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from mm1.data.features.new_data import LastMix, last_mix, mix_key, new_data_since, record_mix
from mm1.data.features.rows import push_raw, push_scores
from mm1.data.features.snapshot import choose_shards, parse_thresholds
from mm1.data.load.freeze import hold_out, mixed_sources, notes_on
from mm1.data.load.loader import MixtureLoader
from mm1.data.load.mixture import parse_weights, with_synthetic
from mm1.data.load.open_mix import make_plan, open_indexes, shards_of
from mm1.data.load.statistics import measure, num_long_documents
from mm1.data.load.validation import open_holdout
from mm1.data.source_names import check_names_in, named_shards
from mm1.errors import ConfigurationError
from mm1.manifests import DataMix, digest_of_manifest, publish
from mm1.report.data_page import figures as figure_tables
from mm1.report.data_page import render_data
from mm1.report.mixtures import _mixture
from mm1.report.page import environment
from mm1.store.local import LocalStore
from mm1.train.history import History
from mm1.train.progress import Progress
from mm1.train.step import StepResult
from tests.support.mixtures import build_mix

GROUPS = ["cc12m", "", "sbu", "cc12m"]
"""Groups of the four shards of captions; the second lies directly at the source's address."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("groups")
    store = LocalStore(folder / "store")
    raw, mix = build_mix(store, folder, weights={"captions": 0.5, "text": 0.5})
    captions = raw.sources["captions"]
    shards = [shard.model_copy(update={"group": group}) for shard, group in zip(captions.shards, GROUPS, strict=True)]
    raw = raw.model_copy(update={"sources": {**raw.sources, "captions": captions.model_copy(update={"shards": tuple(shards)})}})
    publish(store, raw)
    return store, raw, mix.model_copy(update={"raw": digest_of_manifest(raw), "parents": (digest_of_manifest(raw),)})


def mixed(data, weights, holdout="", **changes):
    store, raw, mix = data
    mix = mix.model_copy(update={"sources": mixed_sources(store, raw, parse_weights(weights), {}), **changes})
    indexes = {number: open_indexes(store, raw, source) for number, source in enumerate(mix.sources)}
    mix = hold_out(store, mix, raw, indexes, holdout)
    packing = measure(make_plan(mix, indexes), mix, 300).figures() | num_long_documents(mix, indexes)
    return mix.model_copy(update={"packing": packing})


def names_of(data, mix: DataMix):
    return {source.name: [shard.name for shard in shards_of(data[0], data[1], source)] for source in mix.sources}


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("captions=1", {"captions": [0, 1, 2, 3]}),
        ("captions/cc12m=1", {"captions/cc12m": [0, 3]}),
        ("captions/cc12m=3,captions=1", {"captions/cc12m": [0, 3], "captions": [1, 2]}),
        ("captions=1,captions/sbu=1,captions/cc12m=1", {"captions": [1], "captions/sbu": [2], "captions/cc12m": [0, 3]}),
        ("captions=0,captions/sbu=1,text=1", {"captions/sbu": [2], "text": [0, 1, 2, 3]}),
    ],
)
def test_a_sub_source_is_a_group_and_the_source_is_the_rest(data, weights, expected):
    weights = {name: weight for name, weight in parse_weights(weights).items() if weight}
    store, raw, mix = data
    sources = mixed_sources(store, raw, weights, {})
    mix = mix.model_copy(update={"sources": sources})
    stem = {name: name.partition("/")[0] for name in expected}
    assert names_of(data, mix) == {
        name: [f"{stem[name]}-{number:05d}" for number in numbers] for name, numbers in expected.items()
    }
    assert [source.weight for source in sources] == pytest.approx([w / sum(weights.values()) for w in weights.values()])
    for source in sources:
        assert source.num_samples == sum(shard.num_samples for shard in shards_of(store, raw, source))


@given(st.sets(st.sampled_from(["captions", "captions/cc12m", "captions/sbu"]), min_size=1))
def test_no_shard_is_in_two_sources_of_a_mixture(data, names):
    shards = [shard.name for name in sorted(names) for shard in named_shards(data[1], name, names)]
    assert len(shards) == len(set(shards))
    if "captions" in names:
        assert len(shards) == len(GROUPS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("captions/cc12", "weights: 'captions/cc12': captions has no subfolder 'cc12'; did you mean 'cc12m'?"),
        ("captions/x", "weights: 'captions/x': captions has no subfolder 'x'; known: cc12m, sbu"),
        ("captions/cc12m/a", "captions has no subfolder 'cc12m/a'; did you mean 'cc12m'?"),
        ("text/wiki", "its files are in no subfolders: name 'text' itself"),
        ("web/a", "the data has no source 'web', only captions, text"),
    ],
)
def test_unknown_names_get_suggestions(data, name, message):
    with pytest.raises(ConfigurationError) as caught:
        check_names_in(data[1], "weights", [name])
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["captions/=1", "/cc12m=1", "/=1"])
def test_half_a_name_is_refused(text):
    with pytest.raises(ConfigurationError, match=r"expected a source or source/group"):
        parse_weights(text)


def test_a_source_without_remaining_shards_is_refused(data):
    store, raw, _ = data
    whole = {"captions/cc12m": 1.0, "captions/sbu": 1.0, "captions": 1.0}
    only = raw.sources["captions"].model_copy(update={"shards": tuple(s for s in raw.sources["captions"].shards if s.group)})
    raw = raw.model_copy(update={"sources": {"captions": only}})
    with pytest.raises(ConfigurationError, match=r"'captions' has no shards besides those of captions/cc12m, captions/sbu"):
        mixed_sources(store, raw, whole, {})


def test_data_that_no_source_takes_is_named(data):
    mix = mixed(data, "captions/cc12m=1,text=1")
    (note,) = notes_on(mix, data[1], "")
    assert note.endswith("samples of captions are in no source of the mixture: (no folder), sbu")
    assert not notes_on(mixed(data, "captions/cc12m=1,captions=1"), data[1], "")


def test_the_loader_gives_each_sub_source_its_share_and_resumes(data):
    store, raw, _ = data
    mix = mixed(data, "captions/cc12m=0.5,captions/sbu=0.25,text=0.25")
    settings = {"micro_batch": 4, "global_batch": 4, "rank": 0, "world_size": 1}
    loader = MixtureLoader(store, mix, raw, **settings)
    batches = iter(loader)
    sources = [source for _ in range(4) for source in next(batches)["source_ids"].tolist()]
    assert [sources.count(number) for number in range(3)] == [8, 4, 4]
    state = loader.state_dict()
    assert set(state["cursors"]) == {"captions/cc12m", "captions/sbu", "text"}
    again = iter(MixtureLoader(store, mix, raw, **settings, start_sequence=state["sequence"], cursors=state["cursors"]))
    assert next(again)["input_ids"].tolist() == next(batches)["input_ids"].tolist()


def test_held_out_samples_of_a_source_are_those_of_its_sub_sources(data):
    store = data[0]
    weights = "captions/cc12m=1,captions=1"
    keys = {}
    for request in ("captions=9", "captions/cc12m=0.5", "0.25"):
        mix = mixed(data, weights, request)
        keys[request] = {
            source.name: [sample.key for sample in open_holdout(store, mix, source.name).samples()]
            for source in mix.sources
            if source.num_held_out
        }
        assert sum(source.num_samples + source.num_held_out for source in mix.sources) == 50
    assert sum(map(len, keys["captions=9"].values())) == 9
    assert keys["captions/cc12m=0.5"].keys() == {"captions/cc12m"}
    together = mixed(data, "captions=1", "captions=9")
    whole = [sample.key for sample in open_holdout(store, together, "captions").samples()]
    assert sorted(whole) == sorted(key for part in keys["captions=9"].values() for key in part)


def test_thresholds_and_new_data_are_those_of_the_sub_source(data):
    store, raw, _ = data
    start = datetime(2026, 1, 1, tzinfo=UTC)
    assert push_raw(store, raw, start)
    shards = raw.sources["captions"].shards
    push_scores(store, {shards[0].tar.sha256: 0.9, shards[1].tar.sha256: 0.8}, start + timedelta(days=1))
    names = ["captions/cc12m", "captions"]
    chosen = choose_shards(store, raw, names, parse_thresholds("quality>=0.5"), start + timedelta(days=2))
    assert chosen == {"captions/cc12m": [shards[0].tar.sha256], "captions": [shards[1].tar.sha256]}
    with pytest.raises(ConfigurationError, match="source captions/sbu: none of its 1 shards"):
        choose_shards(store, raw, ["captions/sbu"], parse_thresholds("quality>=0.5"), start + timedelta(days=2))
    sources = mixed_sources(store, raw, {"captions/cc12m": 1.0, "captions": 1.0}, chosen)
    assert names_of(data, data[2].model_copy(update={"sources": sources})) == {
        "captions/cc12m": ["captions-00000"],
        "captions": ["captions-00001"],
    }
    assert new_data_since(store, raw, ["captions/cc12m"], None).shards == 2
    assert new_data_since(store, raw, names, None).shards == 4


def test_the_pointer_to_the_last_mixture_has_a_safe_name(data):
    store, *_ = data
    assert mix_key(["text", "captions"]) == "mixes/captions+text.json"
    for names in (["captions/cc12m", "text"], ["captions/../x"], [f"captions/group-{number:03d}" for number in range(60)]):
        last = LastMix("a" * 64, datetime(2026, 1, 1, tzinfo=UTC))
        record_mix(store, names, last)
        assert last_mix(store, names[::-1]) == last
        assert mix_key(names).count("/") == 1 and len(mix_key(names)) < 255
    assert mix_key(["captions/a"]) != mix_key(["captions", "a"])


def test_rewritten_captions_take_from_every_sub_source():
    weights = with_synthetic({"captions/a": 0.2, "captions": 0.2, "text": 0.6}, 0.1)
    assert weights == pytest.approx({"captions/a": 0.18, "captions": 0.18, "text": 0.6, "synthetic": 0.04})


def test_names_with_a_slash_in_history_and_pages(data):
    store = data[0]
    mix = mixed(data, "captions/cc12m=0.5,captions=0.3,text=0.2", "0.2")
    history = History(1.0, [source.name for source in mix.sources])
    losses = {"captions/cc12m": 1.5, "captions": 2.5}
    result = StepResult(
        loss=2.0,
        source_losses=losses,
        grad_norm=1.0,
        predicted_tokens=1,
        tokens=1,
        positions=1,
        images=0,
        pairs=1,
        router={},
    )
    history.add(Progress(3, 0), result, 1.0)
    again = History(1.0, history.sources)
    again.from_parquet(history.to_parquet(), 3)
    assert again.mean_losses(1) == {"all": 2.0, **losses}
    view = _mixture("mix", "0" * 64, mix)
    page = environment().get_template("mixture.html.j2").render(mixtures=[view], filters=[])
    assert "held out" in page.lower() and "captions/cc12m" in page and "weights by" not in page
    parts = {part.source.name: part.packing for part in view.parts}
    assert len({len(packing) for packing in parts.values()}) == 1 and parts["captions"]["fill"] != "–"
    mixture_table, data_table = figure_tables(store, mix)[:2]
    assert [row[0] for row in mixture_table.rows] == ["captions/cc12m", "captions", "text", "all"]
    assert [row[0] for row in data_table.rows] == ["captions", "captions/cc12m", "captions/sbu", "text"]
    assert all(len(row) == len(table.columns) for table in (mixture_table, data_table) for row in table.rows)
    assert mixture_table.columns[-1] == "held out" and int(mixture_table.rows[-1][-1]) > 0
    assert "captions/cc12m" in render_data(store, mix, sequences=2)
