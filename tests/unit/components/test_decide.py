"""Step decide: what makes it train again, and that it waits otherwise and says why."""

from datetime import UTC, datetime, timedelta

import pytest

from mm1.errors import Outcome
from mm1.manifests import split_uri
from tests.support.retraining import OLD, Site

DAY = timedelta(days=1)


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


def test_before_the_first_mixture_all_data_are_new(site):
    data = site.arrive(2, OLD)
    assert site.decide(data, "r1") == "retrain"
    assert site.outputs["new_samples"] == "400" and site.outputs["new_shards"] == "4"
    assert site.outputs["reason"] == (
        "400 new samples in 4 shards of captions, text, and no mixture yet; reached: min_samples=1: 400"
    )
    assert site.outputs["init"] == site.outputs["serving"] == site.outputs["device_hours"] == ""
    assert site.outputs["data"] == data
    assert site.state["last"]["run"] == "r1" and site.state["last"]["data"] == split_uri(data)[1]
    site.task("r1", "pretrain")
    assert site.decide(data, "r2") == "wait", "they are trained on"


def test_nothing_new_waits_and_says_so(site):
    data = site.arrive(2, OLD)
    site.mix(data, OLD + DAY)
    assert site.decide(data, "r1", max_age_days=1) == "wait"
    assert site.outputs["reason"].startswith("nothing new: 0 new samples in 0 shards of captions, text since the mixture ")
    assert site.state == {}, "nothing to remember"
    summary = (site.folder / "summary.md").read_text()
    assert summary.startswith("# Wait\n\nnothing new") and "| `min_samples` | 1 | 0 | no |" in summary


def test_few_new_samples_wait_until_there_are_enough(site):
    site.mix(site.arrive(2, OLD), OLD + DAY)
    data = site.arrive(1, OLD + 2 * DAY)
    assert site.decide(data, "r1", min_samples=1_000) == "wait"
    assert "200 new samples in 2 shards" in site.outputs["reason"]
    assert "below every threshold: min_samples=1,000: 200" in site.outputs["reason"]
    data = site.arrive(4, OLD + 3 * DAY)
    assert site.decide(data, "r2", min_samples=1_000) == "retrain"
    assert "reached: min_samples=1,000: 1,000" in site.outputs["reason"]


def test_a_share_of_the_last_mixture(site):
    site.mix(site.arrive(5, OLD), OLD + DAY)
    data = site.arrive(1, OLD + 2 * DAY)
    assert site.decide(data, "r1", min_samples=0, min_share=0.25) == "wait"
    assert "min_share=0.25: 0.2 of 1,000 samples" in site.outputs["reason"]
    assert site.decide(data, "r2", min_samples=0, min_share=0.2) == "retrain"


def test_drift_counts_with_as_few_samples_as_there_are(site):
    site.mix(site.arrive(60, OLD), OLD + DAY)
    data = site.arrive(20, OLD + 2 * DAY)
    limits = {"min_samples": 100_000, "max_drift": 0.25}
    assert site.decide(data, "r1", **limits) == "wait", "the same distribution"
    assert "max_drift=0.25: 0." in site.outputs["reason"]
    data = site.arrive(20, OLD + 3 * DAY, words=40.0)
    assert site.decide(data, "r2", **limits) == "retrain"
    assert "mean_words of captions" in site.outputs["reason"] or "tokens_per_sample of" in site.outputs["reason"]


def test_drift_of_few_shards_is_unknown(site):
    site.mix(site.arrive(60, OLD), OLD + DAY)
    data = site.arrive(3, OLD + 2 * DAY, words=40.0)
    assert site.decide(data, "r1", min_samples=100_000, max_drift=0.25) == "wait"
    assert "max_drift=0.25: unknown, too few shards to compare" in site.outputs["reason"]


def test_an_old_model_is_renewed_if_anything_is_new(site):
    data = site.arrive(2, OLD)
    mix = site.mix(data, OLD + DAY)
    pretrained, deployment = site.serve(mix, OLD + DAY)
    limits = {"min_samples": 100_000, "max_age_days": 20}
    assert site.decide(data, "r1", **limits) == "wait", "nothing is new"
    assert (site.outputs["init"], site.outputs["serving"]) == (pretrained, deployment)
    data = site.arrive(1, OLD + 2 * DAY)
    assert site.decide(data, "r2", **{**limits, "max_age_days": 40}) == "wait"
    assert "max_age_days=40: 29.0" in site.outputs["reason"]
    assert site.decide(data, "r3", **limits) == "retrain"
    assert site.state["last"]["init"] == site.outputs["init"] == pretrained


def test_the_given_checkpoint_counts_until_something_is_served(site):
    given = f"{site.store.uri}/manifests/{'c' * 64}.json"
    data = site.arrive(2, OLD)
    mix = site.mix(data, OLD)
    site.decide(data, "r1", min_samples=100_000, init=given)
    assert site.outputs["init"] == given
    pretrained, _ = site.serve(mix, OLD)
    site.decide(data, "r2", min_samples=100_000, init=given)
    assert site.outputs["init"] == pretrained


def test_the_time_of_the_mixtures_is_not_before_the_data(site):
    ahead = datetime.now(UTC) + timedelta(minutes=5)  # the clock of the machine that ingested
    assert site.decide(site.arrive(2, ahead), "r1") == "retrain"
    assert datetime.fromisoformat(site.outputs["as_of"]) == ahead


def test_mixtures_of_other_runs_do_not_hide_new_data(site):
    data = site.arrive(2, OLD)
    site.decide(data, "r1")
    site.task("r1", "pretrain")
    data = site.arrive(2, datetime.now(UTC))
    site.mix(data, datetime.now(UTC))  # an experiment
    assert site.decide(data, "r2") == "retrain"
    assert "since the retraining of run r1 (as of " in site.outputs["reason"]


def test_other_sources_are_compared_with_their_own_mixture(site):
    data = site.arrive(2, OLD)
    site.decide(data, "r1")
    site.task("r1", "pretrain")
    assert site.decide(data, "r2", sources="captions") == "retrain"
    assert "200 new samples in 2 shards of captions, and no mixture yet" in site.outputs["reason"]


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"sources": "captions videos"}, "unknown source 'videos'"),
        ({"sources": "captions interleaved"}, "the data has no source 'interleaved'"),
        ({"sources": " "}, "expected at least one source"),
        ({"target": "My Model"}, "target: expected lower-case letters"),
        ({"device_hours": "many"}, "device_hours: expected a number"),
        ({"min_samples": 0}, "so nothing would ever be trained again"),
        ({"period_days": 0}, "period_days"),
    ],
)
def test_wrong_inputs_are_refused(site, caplog, inputs, says):
    site.decide(site.arrive(1, OLD), "r1", **inputs)
    assert site.outcome is Outcome.CONFIGURATION and says in caplog.text
