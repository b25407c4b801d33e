"""Steps that a verification card names as those that made the data of a training."""

from __future__ import annotations

from pathlib import Path

from mm1.manifests import digest_of_manifest
from mm1.store.local import LocalStore
from mm1_components.ranks.stage_card import producers
from mm1_components.wrapper.declaration import Context
from tests.support.stored_runs import mix, raw, record


def made_by(folder: Path, ingest: dict[str, str]) -> list[str]:
    store = LocalStore(folder)
    first = raw(store, "x")
    second = mix(store, first)
    record(store, "r", "mix", second, inputs={"data": record(store, "r", "ingest", first, inputs=ingest)})
    context = Context(store=store, run="r", task="pretrain", key="", code="", work=folder, artifacts={})
    return [call.task for call in producers(context, [digest_of_manifest(second)])]


def test_producers_are_listed_before_those_that_read_their_results(tmp_path: Path) -> None:
    assert made_by(tmp_path, {"text": "world:0"}) == ["ingest", "mix"]


def test_a_step_that_passes_its_input_on_has_not_made_it(tmp_path: Path) -> None:
    """Ingest with `data` returns that address: the card names no endless chain of ingests."""
    address = f"s3://bucket/x/manifests/{digest_of_manifest(raw(LocalStore(tmp_path), 'x'))}.json"
    assert made_by(tmp_path, {"data": address}) == ["mix"]


def test_records_that_read_each_other_end(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    one, two = raw(store, "x"), raw(store, "y")
    addresses = [f"s3://bucket/x/manifests/{digest_of_manifest(manifest)}.json" for manifest in (one, two)]
    record(store, "r", "a", one, inputs={"data": addresses[1]})
    record(store, "r", "b", two, inputs={"data": addresses[0]})
    context = Context(store=store, run="r", task="pretrain", key="", code="", work=tmp_path, artifacts={})
    assert [call.task for call in producers(context, [digest_of_manifest(one)])] == ["b", "a"]
