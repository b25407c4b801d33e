"""What is served and how it changed: the pointer, the log, and damage."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from mm1.errors import ConfigurationError, DataError
from mm1.lineage.serving import Change, current, history, in_order, kept, previous, record, targets
from mm1.store.local import LocalStore

START = datetime(2026, 11, 30, 12, tzinfo=UTC)


def change(number: int, action: str = "promoted", before: str = "") -> Change:
    return Change.model_validate(
        {
            "action": action,
            "deployment": f"{number:064x}",
            "before": before,
            "time": START + timedelta(seconds=number),
            "by": "run weekly",
            "reason": "passed",
        }
    )


def test_a_target_serves_what_was_promoted_last_and_the_log_has_everything(tmp_path) -> None:
    store = LocalStore(tmp_path)
    assert current(store, "mm1") is None and history(store, "mm1") == [] and targets(store) == []
    changes = [change(1), change(2, before="1" * 64), change(3, "refused"), change(4, "rolled back")]
    for each in changes:
        record(store, "mm1", each)
    assert history(store, "mm1") == changes
    assert current(store, "mm1") == changes[3]
    record(store, "mm1", change(5, "refused"))
    assert current(store, "mm1") == changes[3], "a refusal changes nothing"
    assert targets(store) == ["mm1"]


def test_a_rollback_goes_to_what_was_served_before_and_not_back_again(tmp_path) -> None:
    store = LocalStore(tmp_path)

    def after(number: int, deployment: int, action: str = "promoted") -> str:
        record(store, "mm1", change(number, action).model_copy(update={"deployment": f"{deployment:064x}"}))
        return previous(store, "mm1").lstrip("0")

    assert after(1, 1) == "" and after(2, 2) == "1" and after(3, 3) == "2"
    assert after(4, 2, "rolled back") == "1", "3 was bad"
    assert after(5, 2) == "1", "promoted again"
    assert after(6, 7, "refused") == "1"
    assert kept(store) == {f"{number:064x}" for number in (1, 2)}
    assert after(7, 1, "rolled back") == ""
    assert [each.deployment for each in in_order([change(9, "rolled back")])] == [f"{9:064x}"], "of a log without its beginning"


def test_a_damaged_pointer_is_named(tmp_path) -> None:
    store = LocalStore(tmp_path)
    store.write_json("serving/mm1/current.json", {"action": "promoted"})
    with pytest.raises(DataError, match=r"serving/mm1/current\.json is damaged: .*; restore it"):
        current(store, "mm1")


@pytest.mark.parametrize("name", ["", "A", "../x", "-a", "a" * 54])
def test_names_of_targets_are_those_of_kubernetes(tmp_path, name: str) -> None:
    with pytest.raises(ConfigurationError, match="target: expected lower-case letters"):
        record(LocalStore(tmp_path), name, change(1))


def test_writers_at_the_same_time_lose_no_entry(tmp_path) -> None:
    """Also those of the same moment, and of the same change by different people."""
    store, moment = LocalStore(tmp_path), START
    changes = [change(number % 4).model_copy(update={"time": moment, "by": f"user {number}"}) for number in range(24)]
    with ThreadPoolExecutor(8) as executor:
        list(executor.map(lambda each: record(store, "mm1", each), changes))
    assert sorted(each.by for each in history(store, "mm1")) == sorted(each.by for each in changes)
    assert current(store, "mm1") in changes


def test_an_entry_is_never_changed(tmp_path) -> None:
    store = LocalStore(tmp_path)
    record(store, "mm1", change(1))
    [entry] = store.list("serving/mm1/log/")
    content = store.read(entry)
    for each in (change(1), change(2), change(1, "refused")):
        record(store, "mm1", each)
    assert store.read(entry) == content and len(history(store, "mm1")) == 3
