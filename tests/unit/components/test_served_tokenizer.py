"""`tokenizer=serving:<target>`: the served model's tokenizer, named by the manifest that it comes from."""

from datetime import UTC, datetime

import pytest

from mm1.errors import ConfigurationError
from mm1.lineage.retraining import pretrained, tokenizer_origin
from mm1.lineage.serving import Change, record
from mm1.manifests import Deployment, RawData, load, publish, split_uri
from mm1_components import ingest
from mm1_components.wrapper.raw_data import tokenizer_state
from mm1_components.wrapper.sources import Kind, check_address, kind_of, path_in
from tests.support.retraining import OLD, Site

INFO = ingest.Inputs.model_fields["tokenizer"]


@pytest.fixture
def site(tmp_path) -> Site:
    return Site(tmp_path)


def state(site: Site, tokenizer: str) -> str:
    return tokenizer_state(ingest.Inputs(text="x", tokenizer=tokenizer), site.store)


def test_the_tokenizer_is_that_of_the_data_of_the_served_model(site):
    assert state(site, "serving:mm1") == "train", "nothing is served"
    data = site.arrive(2, OLD)
    checkpoint, deployment = site.serve(site.mix(data, OLD), OLD)
    assert pretrained(site.store, split_uri(deployment)[1]) == split_uri(checkpoint)[1]
    assert state(site, "serving:mm1") == tokenizer_origin(site.store, split_uri(checkpoint)[1]) == split_uri(data)[1]
    assert state(site, "serving:other") == "train"
    assert state(site, "train") == state(site, data) == "", "the cache key names them already"


def test_it_stays_the_same_when_a_successor_is_served(site):
    """Otherwise all data would be ingested again after each promotion."""
    first = site.arrive(2, OLD)
    site.serve(site.mix(first, OLD), OLD)
    raw = load(site.arrive(1, OLD), RawData)
    grown = publish(site.store, raw.model_copy(update={"parents": (split_uri(first)[1],)}))
    site.serve(site.mix(grown, OLD), datetime.now(UTC))
    assert state(site, "serving:mm1") == split_uri(first)[1]
    site.store.delete(f"manifests/{split_uri(first)[1]}.json")
    assert state(site, "serving:mm1") == split_uri(grown)[1], "as far back as the store goes"


def test_a_model_without_pre_training_has_none(site):
    deployment = publish(site.store, Deployment(parents=(), deployed=True, reason="imported"))
    change = Change(action="promoted", deployment=split_uri(deployment)[1], time=OLD, by="me", reason="by hand")
    record(site.store, "mm1", change)
    assert state(site, "serving:mm1") == "train"


def test_the_address_is_checked_and_is_no_path():
    assert kind_of("serving:mm1") is Kind.SERVED and path_in(INFO, "serving:mm1") == ""
    check_address("tokenizer", INFO, "serving:mm1")
    for wrong in ("serving:", "serving:Mm1", "serving:a/b"):
        with pytest.raises(ConfigurationError, match="tokenizer: target: expected lower-case"):
            check_address("tokenizer", INFO, wrong)
