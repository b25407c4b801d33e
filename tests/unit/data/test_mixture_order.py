"""Order of sources and of samples: even, complete, seeded."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm1.data.load.mixture import Mixture, parse_weights
from mm1.data.load.order import SampleOrder
from mm1.errors import ConfigurationError

weights_lists = st.lists(st.integers(0, 60), min_size=1, max_size=6).filter(any)
float_lists = st.lists(st.floats(0, 1, allow_subnormal=False), min_size=1, max_size=4).filter(lambda ws: sum(ws) > 0.1)


@given(weights_lists, st.integers(0, 3))
def test_every_source_has_its_share_within_one_sequence_at_any_point(weights, periods):
    mixture = Mixture(weights)
    first = periods * mixture.period
    counts = mixture.counts(first)
    for sequence in range(first, first + min(mixture.period, 200)):
        source, number = mixture.locate(sequence)
        assert number == counts[source]
        counts[source] += 1
        assert mixture.counts(sequence + 1) == counts
        for count, weight in zip(counts, weights, strict=True):
            assert abs(count - (sequence + 1) * weight / sum(weights)) < 1 + 1e-9


@given(float_lists, st.integers(0, 10**7))
def test_shares_are_near_any_weights_and_kept_far_out(weights, sequence):
    mixture = Mixture(weights)
    for share, weight, count in zip(mixture.shares, weights, mixture.counts(sequence), strict=True):
        assert abs(share - weight / sum(weights)) < 2e-4
        assert abs(count - sequence * share) < 1


def test_rounded_thirds_are_thirds():
    assert Mixture([0.666666667, 0.333333333]).period == 3
    assert Mixture([0.45, 0.45, 0.10]).period == 20


def test_weights_are_parsed():
    assert parse_weights("captions=0.45, text=1") == {"captions": 0.45, "text": 1.0}
    assert parse_weights("captions/my set=1,captions/size=64=2") == {"captions/my set": 1.0, "captions/size=64": 2.0}


@pytest.mark.parametrize("text", ["", "captions", "captions=", "captions=-1", "captions=0", "a=1,a=2", "a=nan", "a=inf", "=1"])
def test_bad_weights_are_refused(text):
    with pytest.raises(ConfigurationError, match="weights"):
        parse_weights(text)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(0, 5), st.integers(1, 20))
def test_an_epoch_gives_each_sample_once(sizes, seed, window_samples):
    order = SampleOrder("captions", sizes, seed, window_samples)
    for epoch in range(2):
        seen: Counter[tuple[int, int]] = Counter()
        for window in range(order.num_windows(epoch)):
            shards, rows = order.rows(epoch, window)
            seen.update(zip(shards.tolist(), rows.tolist(), strict=True))
        assert seen == Counter((shard, row) for shard, size in enumerate(sizes) for row in range(size))


def test_order_depends_on_seed_source_and_epoch_only():
    def rows(name="captions", seed=0, epoch=0):
        return SampleOrder(name, [40, 40], seed).rows(epoch, 0)[1].tolist()

    assert rows() == rows()
    assert len({tuple(rows(**other)) for other in ({}, {"name": "text"}, {"seed": 1}, {"epoch": 1})}) == 4
