"""What a training step shows of the trainer's lines, and what it takes over when the trainer is done."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from mm1.errors import DivergedError, NetworkError
from mm1.train import run_files as kept
from mm1_components.ranks import stage_results as stage
from mm1_components.ranks.stage import work_key
from mm1_components.ranks.train import FIGURES_FILE, OutputLines
from mm1_components.wrapper.declaration import Context
from tests.support.tiny_runs import small_run
from tests.support.training_output import LINE, context_in

MEASURED = {
    "goodput": 0.9716,
    "phases": {"data": 0.1204, "forward": 0.3, "checkpoint": 0.02},
    "straggler": {"rank": 3, "slower": 0.14},
}


def test_figures_go_to_the_log_and_beside_the_progress(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = OutputLines(context_in(tmp_path))
    with caplog.at_level(logging.INFO, "mm1"):
        lines.take(json.dumps(LINE) + "\n")
        lines.take(json.dumps({**LINE, "step": 121, "mfu": 0.3414, "skipped": 2, "spikes": 1, **MEASURED}) + "\n")
    (record,) = caplog.records  # the second comes too soon
    assert record.getMessage() == (
        "step 120 of 400: loss 1.234 (captions 1.100, text 2.000), validation captions 1.301, "
        "9,120 tokens/s, 0:01:12 left, gradient 0.531, 0.81 GB"
    )
    assert (tmp_path / "progress").read_text() == "121/400\n"
    assert (tmp_path / FIGURES_FILE).read_text() == (
        "loss 1.234, validation captions 1.301, 9,120 tokens/s, 0:01:12 left, MFU 34.1%, "
        "goodput 97.2%, rank 3 14% slower, waits for data 12%, gradient 0.531, 0.81 GB, 2 batches skipped, 1 spike not applied"
    )


def test_other_lines_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = OutputLines(context_in(tmp_path))
    for line in ("saved\n", '{"mm1": "progress", broken\n'):
        lines.take(line)
    assert capsys.readouterr().err == 'saved\n{"mm1": "progress", broken\n'


def leave(context: Context, key: str) -> None:
    rows = [
        {"step": 1, "seconds": 1.0, "memory_bytes": 5, "mfu": 0.2, "time": 104.0, "phase/data": 0.25, "phase/forward": 0.5},
        {
            "step": 2,
            "seconds": 3.0,
            "memory_bytes": 7,
            "mfu": 0.4,
            "time": 108.0,
            "phase/forward": 2.0,
            "phase/checkpoint": 1.0,
        },
    ]
    kept.put_rows(context.store, key, 2, "".join(json.dumps(row) + "\n" for row in rows))
    kept.put_start(context.store, key, {"started": 100.0, "ready": 103.0, "lost_s": 0.0})
    (context.work / "trace").write_bytes(b"trace")
    kept.put_file(context.store, key, "trace.json.gz", context.work / "trace")


def test_rows_become_an_artifact_and_files_blobs(tmp_path: Path) -> None:
    context = context_in(tmp_path)
    leave(context, "work")
    shown = stage.collect_files(context, "work")
    assert shown["mfu"] == 0.35 and shown["peak_memory_bytes"] == 7
    assert shown["goodput"] == 3 / 8 and shown["phases_s"] == {"forward": 2.5, "checkpoint": 1.0, "data": 0.25}
    assert (shown["wall_time"]["wall_s"], shown["wall_time"]["startup_s"], shown["wall_time"]["away_s"]) == (8.0, 3.0, 1.0)
    assert Path(shown["files"]["trace.json.gz"].removeprefix("file://")).read_bytes() == b"trace"
    assert context.facts == shown
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    (tmp_path / "metrics.jsonl").unlink()
    assert stage.collect_files(context, "other") == {}, "an imported decoder leaves nothing"
    assert not (tmp_path / "metrics.jsonl").exists()


def test_a_store_that_is_away_does_not_hide_how_training_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def away(*_: object) -> None:
        raise NetworkError("the store is away")

    monkeypatch.setattr(kept, "take", away)
    with pytest.raises(DivergedError):
        try:
            raise DivergedError("the loss is nan")
        finally:
            stage.collect_files(context_in(tmp_path), "work")
    assert "metrics.jsonl stays in the store" in caplog.text


def test_how_a_run_is_looked_at_does_not_change_what_it_is() -> None:
    keys = {
        work_key(small_run("mm1_tiny", *overrides), "", "", "", "")
        for overrides in ((), ("train.profile=3",), ("log.wandb=online",))
    }
    assert len(keys) == 1
