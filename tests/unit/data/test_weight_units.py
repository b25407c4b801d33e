"""Weights as shares of images and of labels (tokens with loss), calibrated from the index."""

import hypothesis.strategies as st
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from mm1.data.load.freeze import with_layout, with_shares
from mm1.data.load.mixture import Mixture, check_period
from mm1.data.load.open_mix import make_plan, open_indexes
from mm1.data.load.statistics import few_labels, measure, sequence_shares
from mm1.data.reader import ShardIndex
from mm1.data.sample import ImagePart, Sample, TextPart
from mm1.errors import ConfigurationError, DataError
from mm1.store.local import LocalStore
from tests.support.mixtures import build_mix, encoded_image, make_samples, words


def conversations(count):
    random = np.random.default_rng(3)
    samples = []
    for number in range(count):
        parts = [ImagePart(0)] if number % 2 else []
        for _ in range(int(random.integers(1, 5))):
            parts += [TextPart(words(random, 3, 12), loss=False), TextPart(words(random, 1, 4))]
        images = [encoded_image(number)] if number % 2 else []
        samples.append(Sample(key=f"instructions-{number:09d}", source="instructions", parts=parts, images=images))
    return samples


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("units")
    store = LocalStore(folder / "store")
    samples = {name: make_samples(name, 50) for name in ("captions", "interleaved", "text")}
    samples["instructions"] = conversations(50)
    raw, mix = build_mix(store, folder, weights=dict.fromkeys(samples, 0.25), samples=samples)
    return store, raw, mix, {number: open_indexes(store, raw, source) for number, source in enumerate(mix.sources)}


def calibrated(mixture, unit, weights, **changes):
    _, _, mix, indexes = mixture
    sources = [source.model_copy(update={"weight": weight}) for source, weight in zip(mix.sources, weights, strict=True)]
    mix = mix.model_copy(update={"sources": tuple(sources), "weights_by": unit, **changes})
    return with_shares(mix, sequence_shares(mix, indexes))


def measured(mixture, mix, figure, sequences=4_000):
    figures = measure(make_plan(mix, mixture[3]), mix, sequences).figures()
    return [figures[f"{source.name}/{figure}"] for source in mix.sources]


def test_the_index_counts_the_tokens_with_loss(mixture):
    store, raw, _, indexes = mixture
    assert all(index.num_label_tokens.tolist() == index.num_text_tokens.tolist() for index in indexes[2])
    for index in indexes[3]:
        assert (index.num_label_tokens < index.num_text_tokens).all() and (index.num_label_tokens > 1).all()
    shard = raw.sources["instructions"].shards[0]
    table = pq.read_table(store.local_path(shard.index))
    assert table.column_names[-3:] == ["num_label_tokens", "content_hash", "image_sizes"]


@pytest.mark.parametrize("one_source", [True, False])
@pytest.mark.parametrize("weights", [(0.25, 0.25, 0.25, 0.25), (0.1, 0.2, 0.3, 0.4)])
def test_weights_by_label_are_shares_of_the_tokens_with_loss(mixture, one_source, weights):
    mix = calibrated(mixture, "label", weights, one_source=one_source)
    np.testing.assert_allclose(measured(mixture, mix, "label_share"), weights, atol=0.02)


@pytest.mark.parametrize(("length", "layout"), [(20, "single"), (64, "single"), (60, "static,marks=index")])
def test_labels_of_cut_documents_add_up(mixture, length, layout):
    mix = with_layout(mixture[2].model_copy(update={"sequence_length": length}), layout, mixture[0])
    plan = make_plan(mix, mixture[3])
    stream = plan.streams[3]
    labels = sum(stream.num_labels(span) for sequence in stream.first_epoch() for span in sequence)
    assert labels == pytest.approx(sum(int(index.num_label_tokens.sum()) for index in mixture[3][3]))


@pytest.mark.parametrize("weights", [(0.5, 0.3, 0.15, 0.05), (0.3, 0.3, 0.1, 0.3)])
def test_weights_by_image_are_shares_of_images_and_text_keeps_its_share_of_sequences(mixture, weights):
    mix = calibrated(mixture, "image", weights)
    total = sum(weights)
    assert mix.sources[2].share == pytest.approx(weights[2])
    assert sum(source.share for source in mix.sources) == pytest.approx(total, abs=1e-6)
    images = np.array([measured(mixture, mix, "images_per_sequence")]) * measured_sequences(mixture, mix)
    expected = np.array([weights[0], weights[1], 0, weights[3]])
    np.testing.assert_allclose(images[0] / images.sum(), expected / expected.sum(), atol=0.02)


def measured_sequences(mixture, mix, sequences=4_000):
    return np.array(Mixture([source.share for source in mix.sources]).counts(sequences))


def test_units_that_no_source_has_are_refused(mixture):
    _, _, mix, indexes = mixture
    mix = mix.model_copy(update={"weights_by": "image", "sources": mix.sources[2:3]})
    with pytest.raises(ConfigurationError, match="the sources have no images"):
        sequence_shares(mix, {0: indexes[2]})


@settings(max_examples=60)
@given(
    units=st.lists(st.integers(1, 500), min_size=2, max_size=4),
    weights=st.lists(st.integers(1, 20), min_size=4, max_size=4),
    sequences=st.integers(1, 10**6),
)
def test_each_source_is_within_one_sequence_of_its_frozen_share_at_any_point(mixture, units, weights, sequences):
    wanted = {number: weight / unit for number, (weight, unit) in enumerate(zip(weights, units, strict=False))}
    shares = {number: round(share / sum(wanted.values()), 9) for number, share in wanted.items()}
    mix = mixture[2].model_copy(update={"sources": mixture[2].sources[: len(units)]})
    frozen = with_shares(mix, shares)
    order = Mixture([source.share for source in frozen.sources])
    before = Mixture([*shares.values()])
    for number, count in enumerate(order.counts(sequences)):
        share = frozen.sources[number].share
        assert abs(count - sequences * share) < 1 + 1e-2 and abs(share - shares[number]) < 1.1e-4
    assert [order.locate(number) for number in range(500)] == [before.locate(number) for number in range(500)]


def test_few_labels_of_a_source_are_reported(mixture):
    _, _, mix, indexes = mixture
    mix = mix.model_copy(update={"image_tokens": 100, "sequence_length": 128, "max_images": 1})
    mix = mix.model_copy(update={"packing": measure(make_plan(mix, indexes), mix, 500).figures()})
    sentences = few_labels(mix)
    low = [s.name for s in mix.sources if mix.packing[f"{s.name}/label_share"] < s.share / 3]
    assert len(sentences) == len(low) > 0
    assert all(
        sentence.startswith(name) and "weights_by=label" in sentence for sentence, name in zip(sentences, low, strict=True)
    )


def test_shards_of_an_earlier_version_count_all_text_but_that_of_conversations(mixture, tmp_path):
    _, _, mix, indexes = mixture
    old = {}
    for number in (2, 3):
        old[number] = []
        for index in indexes[number]:
            table = pq.read_table(index._path).drop_columns(["num_label_tokens", "content_hash"])
            pq.write_table(table, tmp_path / f"{index.name}.parquet")
            old[number].append(ShardIndex(tmp_path / f"{index.name}.parquet", index.name))
    text = mix.model_copy(update={"sources": mix.sources[2:3], "weights_by": "label"})
    assert sequence_shares(text, {0: old[2]}) == {0: 1.0}
    plan = make_plan(text, {0: old[2]})
    assert measure(plan, text, 200).figures() == measure(make_plan(text, {0: indexes[2]}), text, 200).figures()
    chat = mix.model_copy(update={"sources": mix.sources[3:], "weights_by": "label"})
    figures = measure(make_plan(chat, {0: old[3]}), chat, 200).figures()
    assert not [name for name in figures if "label" in name] and not few_labels(chat.model_copy(update={"packing": figures}))
    with pytest.raises(DataError, match="did not count their tokens with loss: ingest the data again"):
        sequence_shares(chat, {0: old[3]})


def test_a_source_that_would_never_occur_is_refused():
    check_period({"captions": 1.0, "text": 1e-4, "interleaved": 0.0})
    with pytest.raises(ConfigurationError, match="text would get less than one of 10,000 sequences"):
        check_period({"captions": 1.0, "text": 1e-6})
