"""``mm1 compare``: two and more runs, and losses step by step."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mm1.lineage.compare import compare_losses
from mm1.lineage.records import read_run
from mm1.store.base import Store
from mm1.store.open import open_store
from mm1_workflows import cli
from tests.support.report_figures import make_checkpoint
from tests.support.stored_runs import mix, raw, record, report


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(str(tmp_path / "store"))


def trained(store: Store, tmp_path: Path, run: str, losses: dict[int, float]) -> None:
    """A run whose training had these losses."""
    path = tmp_path / "history.parquet"
    pq.write_table(pa.table({"step": list(losses), "loss": list(losses.values())}), path)
    checkpoint = make_checkpoint(store, "pretrain", "mm1_tiny", 20, (), mix(store, raw(store, "x")))
    record(store, run, "pretrain", checkpoint.model_copy(update={"history": store.put_file(path)}))


def test_any_number_of_runs_stand_side_by_side(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    for run, value in (("a", 0.5), ("b", 0.75), ("c", 0.25)):
        record(store, run, "evaluate", report(store, value), inputs={"shots": "0 4", "seed": run})
    assert cli.main(["compare", "a", "b", "c", "--store", store.uri]) == 0
    text = capsys.readouterr().out
    line = next(line for line in text.splitlines() if "vqa/4/accuracy" in line)
    assert line.index("0.500") < line.index("0.750") < line.index("0.250")
    assert "evaluate.seed" in text and "evaluate.shots" not in text and "change" not in text


def test_a_run_that_is_not_done_is_named_first(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    record(store, "a", "mix", mix(store, raw(store, "x")))
    record(store, "b", "mix", state="failed", outcome=81)
    assert cli.main(["compare", "a", "b", "--store", store.uri]) == 0
    assert capsys.readouterr().out.startswith("b (failed): some of its values are missing")


def test_one_run_is_nothing_to_compare(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    record(store, "a", "mix", mix(store, raw(store, "x")))
    assert cli.main(["compare", "a", "--store", store.uri]) == 80
    assert "at least two runs" in capsys.readouterr().err
    assert cli.main(["compare", "a", "a", "--losses", "--store", store.uri]) == 80
    assert "has trained" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("other", "tolerance", "exit_code", "text"),
    [
        ({1: 4.0, 2: 3.0, 3: 2.0}, "0", 0, "are equal"),
        ({1: 4.0, 2: 3.0003, 3: 2.0}, "0", 1, "1 loss curve of a differ"),
        ({1: 4.0, 2: 3.0003, 3: 2.0}, "1e-3", 0, "are equal"),
        ({1: 4.0, 2: 3.0}, "1", 1, "1 loss curve of a differ"),
        ({1: 4.0, 2: float("nan"), 3: 2.0}, "1", 1, "inf"),
    ],
)
def test_losses_are_compared_step_by_step(
    store: Store,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    other: dict[int, float],
    tolerance: str,
    exit_code: int,
    text: str,
) -> None:
    trained(store, tmp_path, "a", {1: 4.0, 2: 3.0, 3: 2.0})
    trained(store, tmp_path, "b", other)
    argv = ["compare", "a", "b", "--losses", "--assert-equal", "--tolerance", tolerance, "--store", store.uri]
    assert cli.main(argv) == exit_code
    assert text in capsys.readouterr().out


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf"])
def test_a_tolerance_is_a_number_of_at_least_zero(store: Store, capsys: pytest.CaptureFixture[str], tolerance: str) -> None:
    assert cli.main(["compare", "a", "b", "--losses", f"--tolerance={tolerance}", "--store", store.uri]) == 80
    assert f"expected a number of at least 0, got {tolerance}" in capsys.readouterr().err


def test_the_step_of_the_largest_difference_is_named(store: Store, tmp_path: Path) -> None:
    trained(store, tmp_path, "a", {1: 4.0, 2: 3.0, 3: 2.0})
    trained(store, tmp_path, "b", {1: 4.0, 2: 3.3, 3: 2.1})
    (difference,) = compare_losses(store, [read_run(store, "a"), read_run(store, "b")])
    assert (difference.task, difference.run, difference.step, difference.num_missing) == ("pretrain", "b", 2, 0)
    assert difference.largest == pytest.approx(0.3 / 3.3)
