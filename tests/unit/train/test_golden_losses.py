"""Loss curves of small runs against committed ones: a change of arithmetic shows here, wanted or not."""

import io
import os
import signal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mm1.manifests import Checkpoint, load
from mm1.train.build import build_run
from tests.support.tiny_runs import job_of, small_run

GOLDEN = Path(__file__).parents[2] / "golden" / "losses"
TOLERANCE = 1e-3


@pytest.mark.golden
@pytest.mark.parametrize(("name", "recipe"), [("tiny_dense", "mm1_tiny"), ("tiny_moe", "mm1_tiny_moe")])
def test_loss_curves_are_as_committed(alone, mixture, tmp_path, name, recipe):
    former = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    store, data, _ = mixture
    run = build_run(job_of(small_run(recipe, "train.steps=10"), store, data, tmp_path, key=f"golden-{name}"), 0, 1)
    checkpoint = load(run.go().manifest, Checkpoint)
    for number, handler in former.items():
        signal.signal(number, handler)
    losses = pq.read_table(io.BytesIO(store.get_bytes(checkpoint.history))).column("loss").to_pylist()
    path = GOLDEN / f"{name}.txt"
    if os.environ.get("MM1_UPDATE_GOLDEN"):
        path.write_text("".join(f"{step} {loss:.6f}\n" for step, loss in enumerate(losses, start=1)))
    committed = [float(line.split()[1]) for line in path.read_text().splitlines()]
    assert losses == pytest.approx(committed, rel=TOLERANCE), "`make golden` writes the curve anew if the change is meant"
    assert losses[-1] < losses[0]
