"""Held-out samples: in no sequence of any mixture, the same ones as data arrives, and readable for validation."""

from collections import Counter

import hypothesis.strategies as st
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from mm1.data.load.freeze import hold_out, mixed_sources, notes_on
from mm1.data.load.holdout import held_out_rows, is_held_out, parse_holdout, share_for, trainable_rows
from mm1.data.load.open_mix import make_plan, open_indexes, source_stream
from mm1.data.load.statistics import epochs_of, measure
from mm1.data.load.validation import open_holdout
from mm1.data.reader import ShardIndex
from mm1.data.sample import ImagePart, Sample, TextPart
from mm1.data.shards import content_hash
from mm1.errors import ConfigurationError, DataError
from mm1.manifests import DataMix, load, publish
from mm1.store.local import LocalStore
from tests.support.mixtures import build_mix, make_samples

WEIGHTS = {"captions": 0.4, "interleaved": 0.4, "text": 0.2}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("holdout")
    store = LocalStore(folder / "store")
    raw, mix = build_mix(store, folder, weights=WEIGHTS)
    return store, raw, mix, {number: open_indexes(store, raw, source) for number, source in enumerate(mix.sources)}


def held(mixture, requests, **changes):
    store, raw, mix, indexes = mixture
    return hold_out(store, mix.model_copy(update=changes), raw, indexes, requests)


def all_rows(indexes):
    return {
        (number, shard, row) for number in indexes for shard, index in enumerate(indexes[number]) for row in range(len(index))
    }


@settings(max_examples=40)
@given(
    share=st.floats(0.02, 0.7),
    length=st.integers(12, 64),
    max_images=st.integers(1, 6),
    long=st.sampled_from(["cut", "drop"]),
    seed=st.integers(0, 3),
    start=st.integers(0, 60),
)
def test_each_sample_is_held_out_or_trained_on_however_sequences_are_packed(
    mixture, share, length, max_images, long, seed, start
):
    indexes = mixture[3]
    sizes = {"sequence_length": length, "max_images": max_images, "long_documents": long, "order_seed": seed}
    mix = held(mixture, f"{share}", **sizes)
    for number, source in enumerate(mix.sources):
        tokens = {}
        for kept_out in (False, True):
            try:
                stream = source_stream(mix, number, indexes[number], held_out=kept_out)
            except DataError as error:
                assert "every document is longer" in str(error) or "no samples" in str(error)
                continue
            sequences = list(stream.first_epoch())
            tokens[kept_out] = Counter()
            for span in (span for sequence in sequences for span in sequence):
                tokens[kept_out][span.shard, span.row] += span.stop - span.start
            resumed = source_stream(mix, number, indexes[number], held_out=kept_out)
            begin = min(start, len(sequences) - 1)
            resumed.seek(stream.cursor(begin))
            assert [resumed.sequence(position) for position in range(begin, len(sequences))] == sequences[begin:]
            assert len(tokens[kept_out]) == stream.num_samples - (stream.num_long if long == "drop" else 0)
        if long == "drop":
            assert not tokens.get(False, {}).keys() & tokens.get(True, {}).keys()
            continue
        everything = tokens[False] + tokens.get(True, Counter())
        lengths = {
            (shard, row): int(index.num_text_tokens[row]) + int(index.num_images[row]) * mix.image_tokens
            for shard, index in enumerate(indexes[number])
            for row in range(len(index))
        }
        assert everything == lengths  # each token once: nothing is in both, nothing is missing
        assert len(tokens[False]) == source.num_samples and len(tokens.get(True, ())) == source.num_held_out


@pytest.mark.parametrize("one_source", [True, False])
def test_a_mixture_never_gives_a_held_out_sample_nor_does_one_that_resumes(mixture, one_source):
    mix = held(mixture, "captions=0.3,text=20,interleaved=0.1", one_source=one_source)
    indexes = mixture[3]
    out = {
        (number, shard, row)
        for number in indexes
        for shard, rows in enumerate(held_out_rows(indexes[number], mix.holdout[mix.sources[number].name]))
        for row in rows.tolist()
    }
    plan = make_plan(mix, indexes)
    planned = [plan[number] for number in range(1200)]
    seen = {(span.source, span.shard, span.row) for sequence in planned for span in sequence.spans}
    assert not seen & out and seen | out == all_rows(indexes)
    again = make_plan(mix, indexes)
    again.seek(plan.cursors(613))
    assert [again[number] for number in range(613, 700)] == planned[613:700]


def test_counts_and_epochs_are_those_of_the_samples_to_train_on(mixture):
    store, raw, whole, indexes = mixture
    mix = held(mixture, "text=20")
    assert mix.holdout.keys() == {"text"} and whole.sources[:2] == mix.sources[:2]
    before, text = whole.sources[2], mix.sources[2]
    assert (text.num_held_out, text.num_samples) == (20, before.num_samples - 20)
    rows = trainable_rows(indexes[2], mix.holdout["text"])
    kept = sum(int(index.num_text_tokens[chosen].sum()) for index, chosen in zip(indexes[2], rows, strict=True))
    assert text.num_text_tokens == kept < before.num_text_tokens
    mix = mix.model_copy(update={"packing": measure(make_plan(mix, indexes), mix).figures()})
    one = mix.packing["text/documents_begun"]
    assert epochs_of(mix, 100)["text"] == pytest.approx(100 * one / text.num_samples)
    note = notes_on(mix, raw, "text=20")
    assert len(note) == 1 and f"give holdout=text={mix.holdout['text']!r}" in note[0]
    assert held(mixture, f"text={mix.holdout['text']!r}").holdout == mix.holdout
    assert load(publish(store, mix), DataMix, store) == mix


def test_a_mixture_without_held_out_samples_has_the_manifest_of_earlier_versions(mixture):
    mix = mixture[2]
    assert "holdout" not in mix.model_dump() and "num_held_out" not in mix.sources[0].model_dump()
    assert held(mixture, "") == mix == held(mixture, "captions=0")


@given(st.lists(st.integers(0, 2**64 - 1), min_size=2, max_size=60, unique=True), st.data())
def test_a_number_of_samples_becomes_a_share_that_holds_out_as_many(hashes, data):
    hashes = np.array(hashes, np.uint64)
    if len(set((hashes >> np.uint64(11)).tolist())) < len(hashes):
        return  # equal in the bits that count
    count = data.draw(st.integers(1, len(hashes) - 1))
    cut = data.draw(st.integers(0, len(hashes)))
    share = share_for(count, [hashes[:cut], hashes[cut:]], "text")
    assert int(is_held_out(hashes, share).sum()) == count
    assert is_held_out(hashes, float(repr(share))).tolist() == is_held_out(hashes, share).tolist()


@given(st.floats(0, 0.999), st.floats(0, 0.999))
def test_a_larger_share_only_adds_held_out_samples(first, second):
    hashes = np.random.default_rng(0).integers(0, 2**64, 2_000, np.uint64)
    small, large = (is_held_out(hashes, share) for share in sorted((first, second)))
    assert not (small & ~large).any()
    assert large.mean() == pytest.approx(max(first, second), abs=0.06)


def test_the_choice_stays_when_data_arrives_and_the_tokenizer_and_keys_change(tmp_path):
    def keys_out(name, samples, **sizes):
        store = LocalStore(tmp_path / name)
        raw, mix = build_mix(store, tmp_path / f"{name}-work", weights={"captions": 1.0}, samples=samples, **sizes)
        mix = hold_out(store, mix, raw, {0: open_indexes(store, raw, mix.sources[0])}, "captions=0.2")
        return {sample.meta["number"] for sample in open_holdout(store, mix, "captions").samples()}

    samples = make_samples("captions", 80)
    early = keys_out("early", {"captions": samples[10:50]})
    for sample in samples:
        sample.key = f"other-{80 - sample.meta['number']}"
    grown = keys_out("grown", {"captions": samples[::-1]}, per_shard=7, vocabulary=320)
    assert 0 < len(early) < 40
    assert early == {number for number in grown if 10 <= number < 50}


def test_the_images_count_or_else_the_texts():
    def pair(text, *images, source="captions"):
        return content_hash(Sample("a", source, [ImagePart(0), TextPart(text)], list(images), {"origin": text}))

    assert pair("a cat", b"pixels") == pair("a dog", b"pixels", source="synthetic")
    assert len({pair("a", b"pixels"), pair("a", b"pixel"), pair("a", b"pixels", b""), pair("a", b"pix", b"els")}) == 4
    texts = [["a cat"], ["a ", "cat"], ["a dog"], ["a cat", ""]]
    hashes = {content_hash(Sample("a", "text", [TextPart(text) for text in parts])) for parts in texts}
    assert len(hashes) == len(texts)
    loss = [content_hash(Sample(key, key, [TextPart("a cat", key == "b")])) for key in "ab"]
    assert loss[0] == loss[1]


def test_samples_with_the_same_images_are_held_out_together_and_rewritten_captions_with_the_captions(tmp_path):
    store = LocalStore(tmp_path / "store")
    captions = make_samples("captions", 60)
    for one, other in zip(captions[::2], captions[1::2], strict=True):
        other.images = one.images
    synthetic = make_samples("synthetic", 60, seed=5)
    for one, other in zip(captions, synthetic, strict=True):
        other.images, other.parts = one.images, [ImagePart(0), TextPart("something else")]
    raw, mix = build_mix(
        store,
        tmp_path / "work",
        weights={"captions": 0.5, "synthetic": 0.5},
        samples={"captions": captions, "synthetic": synthetic},
    )
    indexes = {number: open_indexes(store, raw, source) for number, source in enumerate(mix.sources)}
    for request in ("captions=0.3", "0.3", "captions=9"):
        chosen = hold_out(store, mix, raw, indexes, request)
        out = [{s.images[0] for s in open_holdout(store, chosen, name).samples()} for name in ("captions", "synthetic")]
        assert out[0] == out[1]
        assert [source.num_held_out for source in chosen.sources] == [2 * len(out[0])] * 2
    assert chosen.sources[0].num_held_out == 10  # the images of the ninth sample have another caption
    assert hold_out(store, mix, raw, indexes, "captions=0.3,synthetic=0").holdout == {"captions": 0.3}


@pytest.mark.parametrize("world_size", [1, 3])
def test_validation_reads_each_held_out_sample_once_on_any_number_of_ranks(mixture, world_size):
    store = mixture[0]
    mix = held(mixture, "0.3")
    opened = open_holdout(store, mix, "interleaved")
    samples = list(opened.samples())
    assert len(opened) == len(samples) == mix.sources[1].num_held_out > 3
    ranks = [list(opened.batches(2, rank, world_size)) for rank in range(world_size)]
    assert len({len(batches) for batches in ranks}) == 1
    batches = [batch for batches in ranks for batch in batches]
    assert all(batch["input_ids"].shape == (2, mix.sequence_length) for batch in batches)
    assert all(batch["source_ids"].tolist() == [1, 1] for batch in batches)
    assert sum(len(batch.get("pixel_values", ())) for batch in batches) == sum(len(sample.images) for sample in samples)
    text_tokens = sum(int(index.num_text_tokens[rows].sum()) for index, rows in zip(mixture[3][1], opened.rows, strict=True))
    assert sum(int((batch["labels"] != -100).sum()) for batch in batches) == text_tokens


def test_validation_without_held_out_samples_names_the_remedy(mixture):
    store = mixture[0]
    with pytest.raises(ConfigurationError, match=r"holds out no sample of captions: create it with holdout=captions="):
        open_holdout(store, held(mixture, "text=0.2"), "captions")
    with pytest.raises(ConfigurationError, match="did you mean 'captions'"):
        open_holdout(store, held(mixture, "text=0.2"), "caption")


def test_requests_are_parsed():
    assert parse_holdout("") == {}
    assert parse_holdout("0.001") == {"": 0.001}
    assert parse_holdout(" captions/cc12m=500 , 0.01,text=1") == {"captions/cc12m": 500, "": 0.01, "text": 1}


@pytest.mark.parametrize(
    "text", ["captions", "captions=", "=0.1", "-1", "text=1.5", "text=nan", "text=inf", "0.1,0.2", "a=1,a=2"]
)
def test_bad_requests_are_refused(text):
    with pytest.raises(ConfigurationError, match=r"^holdout: "):
        parse_holdout(text)


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ("images=0.1", "holdout: the data has no source 'images', only captions, interleaved, text"),
        ("text/wiki=0.1", "text has no subfolder 'wiki'; its files are in no subfolders: name 'text' itself"),
        ("text=50", "text has 50 samples, expected more than the 50 to hold out"),
        ("text=0.9999999", "all 50 samples of text are held out: set a smaller share"),
    ],
)
def test_impossible_requests_are_refused(mixture, requests, message):
    with pytest.raises(ConfigurationError) as caught:
        held(mixture, requests)
    assert message in str(caught.value)


def test_a_share_that_holds_out_nothing_is_reported(mixture):
    mix = held(mixture, "captions=0.0000001")
    assert [note for note in notes_on(mix, mixture[1], "captions=0.0000001") if "too small for 50" in note]


def test_a_shard_of_an_earlier_version_is_refused_with_the_remedy(mixture, tmp_path):
    store, raw, *_ = mixture
    shard = raw.sources["text"].shards[0]
    table = pq.read_table(store.local_path(shard.index))
    pq.write_table(table.drop_columns(["content_hash", "num_label_tokens"]), tmp_path / "old.parquet")
    index = ShardIndex(tmp_path / "old.parquet", shard.name, shard.tar)
    assert index.num_label_tokens is None and len(index) == shard.num_samples
    with pytest.raises(DataError, match="ingest the data again"):
        index.content_hashes()


def test_every_mixture_of_the_data_holds_out_the_same_samples(mixture):
    store, raw, mix, _ = mixture
    half = [shard.tar.sha256 for shard in raw.sources["text"].shards[::2]]
    alone = mix.model_copy(update={"sources": mixed_sources(store, raw, {"text": 1.0}, {"text": half}), "order_seed": 9})
    alone = hold_out(store, alone, raw, {0: open_indexes(store, raw, alone.sources[0])}, "text=7")
    assert alone.holdout["text"] == held(mixture, "text=7").holdout["text"]
