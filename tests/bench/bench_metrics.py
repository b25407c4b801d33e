"""What metrics, progress lines and Weights & Biases cost at ten steps a second, beside the same loop without them.

``python tests/bench/bench_metrics.py``. A step is a fixed amount of matrix products, about 100 ms of one core; blocks of 20
steps with and without the callbacks take turns, wandb (offline, started before) among them. Each pair of blocks gives a ratio
of wall times; told are the median over all pairs, and what the callbacks and wandb's processes take of a core's time.
"""

from __future__ import annotations

import io
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402
import torch  # noqa: E402

from mm1.store.local import LocalStore  # noqa: E402
from mm1.train.callback import Callback  # noqa: E402
from mm1.train.callbacks.metrics import Devices, Metrics  # noqa: E402
from mm1.train.callbacks.progress import ProgressLines  # noqa: E402
from mm1.train.callbacks.wandb import Wandb  # noqa: E402
from mm1.train.flops import count_flops  # noqa: E402
from mm1.train.loop import Progress  # noqa: E402
from mm1.train.step import StepResult  # noqa: E402
from tests.support.tiny_model import tiny_config  # noqa: E402

STEP_S, BLOCK, PAIRS, WANTED = 0.1, 20, 15, 0.01
SOURCES = ("captions", "interleaved", "text")
RESULT = StepResult(
    loss=1.2345678,
    source_losses=dict.fromkeys(SOURCES, 1.2345678),
    grad_norm=0.53123,
    predicted_tokens=900,
    tokens=2031,
    positions=2048,
    images=96,
    pairs=90_000,
    router=dict.fromkeys(("balance_loss", "z_loss", "load_max", "entropy", "dropped"), 0.987654),
)


def products_of(seconds: float) -> int:
    """How many products of a fixed size make a step."""
    matrix = torch.rand(256, 256)
    started = time.perf_counter()
    for _ in range(500):
        matrix @ matrix
    return max(1, round(500 * seconds / (time.perf_counter() - started)))


def block(callbacks: list[Callback], progress: Progress, products: int) -> tuple[float, float]:
    """Wall time of some steps, and processor time that this thread spent in the callbacks."""
    matrix, spent = torch.rand(256, 256), 0.0
    started = time.perf_counter()
    for _ in range(BLOCK):
        for _ in range(products):
            matrix @ matrix
        progress.advance(RESULT)
        before = time.thread_time()
        for callback in callbacks:
            callback.on_step(progress, RESULT, 0.5)
        spent += time.thread_time() - before
    return time.perf_counter() - started, spent


def beside(wandb: Wandb) -> float:
    """Processor time of wandb's processes so far."""
    assert wandb.process is not None
    first = psutil.Process(wandb.process.pid)
    times = [one.cpu_times() for one in (first, *first.children(recursive=True))]
    return sum(one.user + one.system for one in times)


def wait_for_start(wandb: Wandb, folder: Path) -> float:
    """Until its file is there; gives the processor time that the start took."""
    while not list(folder.glob("wandb/offline-run-*/*.wandb")):
        time.sleep(0.1)
    time.sleep(5.0)  # it goes on a little after that
    return beside(wandb)


def main() -> None:
    """Measure, and say whether it is within the bound."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        devices = Devices(number=1, peak=1e12, flops=count_flops(tiny_config()))
        metrics = Metrics(folder, LocalStore(folder / "store"), "bench", every=100, peak_lr=1e-3, devices=devices)
        config: dict[str, Any] = {"recipe": "bench"}
        wandb = Wandb("offline", folder, metrics.store, "bench", config=config, metrics=metrics.path)
        callbacks = [metrics, wandb, ProgressLines(0.5, metrics, io.StringIO())]
        progress = Progress(10**9)
        for callback in callbacks:
            callback.on_start(progress)
        start_s = wait_for_start(wandb, folder)
        products = products_of(STEP_S)
        ratios, spent, wall = [], 0.0, 0.0
        for number in range(PAIRS):
            order = [callbacks, []] if number % 2 else [[], callbacks]
            found = {bool(chosen): block(chosen, progress if chosen else Progress(10**9), products) for chosen in order}
            ratios.append(found[True][0] / found[False][0])
            spent, wall = spent + found[True][1], wall + sum(seconds for seconds, _ in found.values())
        before, began = beside(wandb), time.perf_counter()
        for _ in range(PAIRS):
            block(callbacks, progress, products)
        aside = (beside(wandb) - before) / (time.perf_counter() - began)
        for callback in callbacks:
            callback.on_end(progress)
    steps = BLOCK * PAIRS
    say(1e3 * wall / 2 / steps, ratios, start_s, spent / steps, aside)


def say(step_ms: float, ratios: list[float], start_s: float, spent_s: float, aside: float) -> None:
    """Tell what was measured: processor time in the training thread, and share of a core that wandb's processes take."""
    share = spent_s / STEP_S + aside
    print(f"step {step_ms:.0f} ms; wall with / without: {statistics.median(ratios):.4f} (median of {PAIRS} pairs)")
    print(f"in the training thread: {1e6 * spent_s:.0f} us a step, {spent_s / STEP_S:.2%} of {1e3 * STEP_S:.0f} ms")
    print(f"wandb beside it: start {start_s:.1f} s once, then {aside:.2%} of a core")
    print(f"together {share:.2%} of the step's time; wanted at most {WANTED:.0%}: {'yes' if share <= WANTED else 'NO'}")


if __name__ == "__main__":
    main()
