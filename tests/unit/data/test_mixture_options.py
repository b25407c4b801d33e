"""What a mixture may be: presets, shares of tokens, rewritten captions, sources that share sequences, bounded repetition."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from mm1.config.resolve import canonical_json
from mm1.data.load.mixture import WEIGHT_PRESETS, Mixture, parse_weights, with_synthetic
from mm1.data.load.open_mix import make_plan, open_indexes
from mm1.data.load.order import MixedOrder, SampleOrder
from mm1.data.load.statistics import (
    check_epochs,
    epochs_of,
    measure,
    num_long_documents,
    sequence_shares,
    sequences_until,
)
from mm1.errors import ConfigurationError, DataError
from mm1.store.local import LocalStore
from tests.support.mixtures import build_mix

WEIGHTS = {"captions": 0.45, "interleaved": 0.45, "text": 0.1}


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options")
    store = LocalStore(folder / "store")
    raw, mix = build_mix(store, folder, weights=WEIGHTS)
    return store, raw, mix, {number: open_indexes(store, raw, source) for number, source in enumerate(mix.sources)}


def with_shares(mix, shares):
    sources = [source.model_copy(update={"sequence_share": shares[number]}) for number, source in enumerate(mix.sources)]
    return mix.model_copy(update={"sources": tuple(sources)})


def test_presets_are_those_of_the_papers():
    assert parse_weights("mm1") == {"captions": 0.45, "interleaved": 0.45, "text": 0.10}
    assert parse_weights("mm1_5") == parse_weights("mm1.5") == {"captions": 0.50, "interleaved": 0.10, "text": 0.40}
    assert all(sum(weights.values()) == pytest.approx(1) for weights in WEIGHT_PRESETS.values())
    with pytest.raises(ConfigurationError, match=r"one of mm1, mm1_5, mm1.5, sft, mm1_sft, mm1_5_sft, got 'mm2'"):
        parse_weights("mm2")


def test_rewritten_captions_are_a_share_of_the_captions():
    weights = with_synthetic(parse_weights("mm1"), 0.07)
    assert weights["captions"] + weights["synthetic"] == pytest.approx(0.45)
    assert weights["synthetic"] == pytest.approx(0.45 * 0.07)
    given = {"captions": 1.0, "synthetic": 1.0}
    assert with_synthetic(given, 0.07) == given
    assert with_synthetic({"text": 1.0}, 0.07) == {"text": 1.0}


@pytest.mark.parametrize("one_source", [True, False])
@pytest.mark.parametrize("wanted", [(0.45, 0.45, 0.1), (0.1, 0.5, 0.4)])
def test_weights_by_token_are_shares_of_tokens(mixture, one_source, wanted):
    _, _, mix, indexes = mixture
    sources = [source.model_copy(update={"weight": weight}) for source, weight in zip(mix.sources, wanted, strict=True)]
    mix = mix.model_copy(update={"sources": tuple(sources), "one_source": one_source})
    mix = with_shares(mix, sequence_shares(mix, indexes))
    figures = measure(make_plan(mix, indexes), mix, 4_000).figures()
    found = [figures[f"{source.name}/token_share"] for source in mix.sources]
    np.testing.assert_allclose(found, wanted, atol=0.015)


def test_sources_share_sequences_when_they_may(mixture):
    _, _, mix, indexes = mixture
    apart, together = make_plan(mix, indexes), make_plan(mix.model_copy(update={"one_source": False}), indexes)
    assert all(len({span.source for span in apart[number].spans}) == 1 for number in range(200))
    kinds = [{span.source for span in together[number].spans} for number in range(200)]
    assert sum(len(found) > 1 for found in kinds) > 100
    for number in range(50):
        planned = together[number]
        tokens = [sum(p.stop - p.start for p in planned.spans if p.source == source) for source in range(3)]
        assert tokens[planned.source] == max(tokens)
        assert sum(tokens) <= mix.sequence_length
        assert sum(span.num_images for span in planned.spans) <= mix.max_images


def test_a_mixed_plan_goes_on_from_its_cursors(mixture):
    _, _, mix, indexes = mixture
    mix = mix.model_copy(update={"one_source": False})
    plan = make_plan(mix, indexes)
    expected = [plan[number] for number in range(300)]
    cursors = plan.cursors(211)
    again = make_plan(mix, indexes)
    again.seek(cursors)
    assert [again[number] for number in range(211, 300)] == expected[211:]
    assert [again[number] for number in range(5)] == expected[:5]


def test_long_documents_are_cut_or_left_out_and_counted(mixture):
    _, _, mix, indexes = mixture
    short = mix.model_copy(update={"sequence_length": 30, "max_images": 4})
    long = num_long_documents(short, indexes)
    assert long["interleaved/long_documents"] > 5
    cut = measure(make_plan(short, indexes), short, 500).figures()
    assert cut["interleaved/cut_share"] > 0.1
    dropping = short.model_copy(update={"long_documents": "drop"})
    plan = make_plan(dropping, indexes)
    assert measure(plan, dropping, 500).figures()["cut_share"] == 0
    seen = {(p.source, p.shard, p.row) for number in range(600) for p in plan[number].spans}
    assert len(seen) == sum(source.num_samples for source in mix.sources) - sum(long.values())
    tiny = short.model_copy(update={"sequence_length": 6, "max_images": 1, "long_documents": "drop"})
    with pytest.raises(DataError, match=r"every document is longer than 6 tokens.*long_documents=cut"):
        make_plan(tiny, indexes)


def test_repetition_is_bounded_and_said_before_training(mixture):
    _, _, mix, indexes = mixture
    figures = measure(make_plan(mix, indexes), mix).figures()
    mix = mix.model_copy(update={"packing": figures, "max_epochs": 4.0})
    mix = mix.model_copy(update={"max_sequences": sequences_until(mix, 4.0)})
    plan = make_plan(mix, indexes)
    seen = {}
    for number in range(mix.max_sequences):
        for span in plan[number].spans:
            if span.start == 0:
                key = span.source, span.shard, span.row
                seen[key] = seen.get(key, 0) + 1
    assert max(seen.values()) in (4, 5)  # the first source is in its fourth epoch, or just over
    assert max(epochs_of(mix, mix.max_sequences).values()) == pytest.approx(4.0, abs=0.1)
    assert check_epochs(mix, mix.max_sequences) == ""
    assert "max_epochs" in check_epochs(mix, mix.max_sequences + 1)
    assert "captions" in check_epochs(mix, 10 * mix.max_sequences)
    assert check_epochs(mix.model_copy(update={"max_sequences": None}), 10**9) == ""


def test_a_mixture_is_a_few_kilobytes_however_much_data_it_takes(mixture):
    store, _, mix, _ = mixture
    chosen = store.put_bytes("\n".join(f"{number:064x}" for number in range(20_000)).encode())
    sources = [source.model_copy(update={"shards": chosen, "num_samples": 10**9}) for source in mix.sources]
    assert len(canonical_json(mix.model_copy(update={"sources": tuple(sources)}))) < 6_000


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=4), min_size=1, max_size=3),
    window=st.integers(1, 40),
    start=st.integers(0, 100),
    seed=st.integers(0, 5),
)
def test_the_order_of_mixed_samples_is_that_of_each_source(sizes, window, start, seed):
    orders = [SampleOrder(f"s{number}", counts, seed, window_samples=7) for number, counts in enumerate(sizes)]
    order = orders[0]
    count = 2 * sum(sizes[0]) + 3
    whole = np.stack(order.take(0, start + count))
    np.testing.assert_array_equal(np.stack(order.take(start, count)), whole[:, start:])
    first_epoch = whole[:, : sum(sizes[0])].T.tolist()
    if len(first_epoch) == sum(sizes[0]):
        assert sorted(map(tuple, first_epoch)) == [(s, r) for s, n in enumerate(sizes[0]) for r in range(n)]
    mixed = MixedOrder(orders, Mixture([1.0] * len(orders)), window_samples=window)
    rows = [np.stack(mixed.rows(0, number)) for number in range(4)]
    together = np.concatenate(rows, axis=1)
    inside = together[0] < len(sizes[0])
    np.testing.assert_array_equal(together[:, inside], np.stack(order.take(0, int(inside.sum()))))
