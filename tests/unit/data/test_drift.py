"""Population stability index: its value by hand, its chance limit by simulation, and what is compared."""

import numpy as np
import pytest

from mm1.data.features.drift import bin_edges, chance_limit, largest_drift, shares, stability_index
from tests.support.retraining import OLD, Site

ONES = np.ones(100)


def test_the_index_is_that_of_the_literature():
    old, new = np.array([0.1, 0.4, 0.5]), np.array([0.2, 0.4, 0.4])
    expected = 0.1 * np.log(2) + 0.0 - 0.1 * np.log(0.8)
    assert stability_index(old, new) == pytest.approx(expected)
    assert stability_index(old, old) == 0


def test_bins_have_equal_weight_in_the_old_shards():
    values = np.arange(100.0)
    edges = bin_edges(values, ONES, num_new=50)
    assert len(edges) == 9 and shares(values, ONES, edges) == pytest.approx(np.full(10, 0.1))
    heavy = np.where(values < 10, 9.0, 1.0)  # the first ten shards have half of the samples
    assert np.median(bin_edges(values, heavy, num_new=50)) == pytest.approx(9.0, abs=1.0)


@pytest.mark.parametrize(("num_old", "num_new", "bins"), [(3, 100, 0), (100, 3, 0), (100, 4, 2), (8, 100, 4), (500, 500, 10)])
def test_there_are_as_many_bins_as_shards_allow(num_old, num_new, bins):
    edges = bin_edges(np.random.default_rng(0).normal(size=num_old), np.ones(num_old), num_new)
    assert len(edges) + 1 == (bins or 1)


def test_values_that_do_not_differ_have_no_bins():
    assert len(bin_edges(np.full(100, 1.0), ONES, 100)) == 0
    mostly = np.where(np.arange(100) < 95, 0.0, 1.0)
    edges = bin_edges(mostly, ONES, 100)
    assert list(edges) == [0.0] and shares(mostly, ONES, edges) == pytest.approx([0.95, 0.05], abs=0.01)


@pytest.mark.parametrize(("num_old", "num_new"), [(60, 20), (300, 30), (500, 500)])
def test_chance_alone_exceeds_its_limit_as_seldom_as_stated(num_old, num_new):
    random, exceeded = np.random.default_rng(1), 0
    for _ in range(300):
        old, new = random.normal(size=num_old), random.normal(size=num_new)
        edges = bin_edges(old, np.ones(num_old), num_new)
        index = stability_index(shares(old, np.ones(num_old), edges), shares(new, np.ones(num_new), edges))
        exceeded += index > chance_limit(len(edges) + 1, num_old, num_new, 0.05)
    assert exceeded / 300 < 0.1


def tars(site: Site, first: int, last: int) -> dict[str, list[str]]:
    return {name: [shard.tar.sha256 for shard in shards[first:last]] for name, shards in site.shards.items()}


def test_the_statistic_that_drifted_is_named(tmp_path):
    site = Site(tmp_path)
    site.arrive(40, OLD)
    site.arrive(30, OLD)
    site.arrive(30, OLD, words=40.0)
    same = largest_drift(site.store, tars(site, 0, 40), tars(site, 40, 70))
    assert same is not None and same.size == 0 and same.psi < same.chance
    drift = largest_drift(site.store, tars(site, 0, 40), tars(site, 70, 100))
    assert drift is not None and drift.size > 2 and drift.statistic in ("mean_words", "tokens_per_sample")
    assert "by chance" in str(drift) and drift.source in ("captions", "text")


def test_without_rows_or_old_shards_there_is_nothing_to_compare(tmp_path):
    site = Site(tmp_path)
    assert largest_drift(site.store, {}, {}) is None
    site.arrive(10, OLD)
    assert largest_drift(site.store, {}, tars(site, 0, 10)) is None
    assert largest_drift(site.store, tars(site, 0, 10), {"captions": [], "text": []}) is None
    assert largest_drift(site.store, tars(site, 0, 5), {"captions": ["f" * 64]}) is None
