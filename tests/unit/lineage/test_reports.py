"""Evaluations of a checkpoint in a store: in the order of their runs, whoever published them."""

from __future__ import annotations

from pathlib import Path

from mm1.lineage.reports import reports_of
from mm1.manifests import publish
from mm1.store.local import LocalStore
from tests.support.stored_runs import ZERO, record, report


def test_the_newest_report_is_the_last_and_one_without_a_run_counts_too(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    values = {"later": 0.3, "earlier": 0.2}
    for day, run in ((2, "earlier"), (3, "later")):
        record(store, run, "evaluate", report(store, values[run]), started=f"2026-01-0{day}T00:00:00.000+00:00")
    publish(store, report(store, 0.1))  # mm1 eval --store
    assert [each.scores[0].value for each in reports_of(store, ZERO)] == [0.1, 0.2, 0.3]
    assert reports_of(store, "1" * 64) == []
