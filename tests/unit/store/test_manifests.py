"""Manifests: digests, verification, lineage, blobs."""

import json

import pytest

from mm1.errors import ConfigurationError, DataError
from mm1.lineage.graph import ancestors
from mm1.manifests import (
    Checkpoint,
    DataMix,
    Deployment,
    GateDecision,
    GateRule,
    blobs_of,
    digest_of_manifest,
    load,
    manifest_key,
    publish,
    split_uri,
)
from mm1.store.open import open_store


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "store"))


def decision(**changes):
    rule = GateRule(rule="captions/0/content_f1>=0.5", value=0.9, threshold=0.5, passed=True)
    return GateDecision(**({"checkpoint": "a" * 64, "decision": "pass", "rules": (rule,)} | changes))


def test_same_content_has_the_same_address_in_every_store(tmp_path):
    first = publish(open_store(str(tmp_path / "a")), decision())
    second = publish(open_store(str(tmp_path / "b")), decision())
    assert split_uri(first)[1] == split_uri(second)[1] == digest_of_manifest(decision())
    assert digest_of_manifest(decision(decision="fail")) != digest_of_manifest(decision())


def test_load_gives_back_what_was_published(store):
    uri = publish(store, decision())
    assert load(uri, GateDecision) == decision()


def test_wrong_kind_is_refused_by_name(store):
    uri = publish(store, decision())
    with pytest.raises(ConfigurationError, match="expected a manifest of kind Checkpoint, got GateDecision"):
        load(uri, Checkpoint)


def test_damage_is_noticed(store):
    uri = publish(store, decision())
    key = manifest_key(split_uri(uri)[1])
    store.write(key, store.read(key).replace(b'"pass"', b'"fail"', 1))
    with pytest.raises(DataError, match="does not match its digest"):
        load(uri, GateDecision)


def test_manifest_of_another_version_says_so(store):
    from mm1.store.base import digest_of

    data = json.dumps(decision().model_dump(mode="json") | {"schema_version": 7}).encode()
    store.write(manifest_key(digest_of(data)), data)
    with pytest.raises(DataError, match="another version"):
        load(f"{store.uri}/{manifest_key(digest_of(data))}", GateDecision)


def test_not_an_address():
    with pytest.raises(ConfigurationError, match="expected a manifest's address"):
        load("file:///x.json", GateDecision)


def test_ancestors_are_found_once_nearest_first(store):
    root = decision()
    middle = decision(parents=(digest_of_manifest(root),))
    leaf = Deployment(deployed=True, reason="", parents=(digest_of_manifest(middle), digest_of_manifest(root)))
    for manifest in (root, middle, leaf):
        publish(store, manifest)
    found = ancestors(store, digest_of_manifest(leaf))
    assert list(found.values()) == [leaf, middle, root]


def test_blobs_are_found_at_any_depth(store):
    first, second = store.put_bytes(b"1"), store.put_bytes(b"2")
    mix = DataMix(
        raw="a" * 64, sources=(), order_seed=0, sequence_length=8, max_images=1, image_tokens=1, image_size_px=8,
        packing={}, tokenizer={"a": first, "b": second},
    )  # fmt: skip
    assert blobs_of(mix) == {first.sha256, second.sha256}
