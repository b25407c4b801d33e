"""Checkpoints while training goes on, beside torch's own: ``python tests/bench/bench_checkpoint.py [--rounds 5]``.

A decoder of 42 million parameters in float32 with AdamW: 500 MB of weights and moments. Both sides save the same tensors to
the same disk, in turn, while the trainer goes on doing steps with one thread (``--threads``); *stall* is how long a step waits
for the checkpoint to begin, *durable* the time until all of it is synced to disk. Ours also hashes every byte, publishes a
manifest and removes the checkpoint before; torch's DCP (async_save, its files synced) does not. Then the load of a state of two
ranks by one: digests verified, model, optimizer.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from mm1_components.ranks.torchrun import PROCESS_SETTINGS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
SHAPE = (
    "model.decoder.hidden_size=512",
    "model.decoder.num_layers=12",
    "model.decoder.num_heads=8",
    "model.decoder.num_kv_heads=8",
    "model.decoder.head_size=64",
    "model.decoder.ffn_size=1536",
    "model.decoder.vocab_size=2048",
)
RUN = ("optim.name=adamw", "train.steps=100000", "train.global_batch=2", "train.micro_batch=2", "train.checkpoint_every=100000")


def build(root: Path, name: str) -> Any:
    """A run in this process."""
    from mm1.config.resolve import resolve
    from mm1.recipes import registry
    from mm1.train.build import build_run
    from tests.support.tiny_runs import job_of, one_process, small_mix

    one_process()
    store, data, _ = small_mix(root / name)
    config = resolve(registry.get("mm1_tiny"), [*SHAPE, *RUN])
    job = job_of(config, store, data, root / f"{name}-job", "bench")
    return build_run(job, 0, 1), job


def step(run: Any) -> None:
    """One step of training."""
    result = run.loop.step([next(run.loop.batches)], 0.1)
    run.progress.advance(result)


def beside(run: Any, begin: Callable[[], Future[Any]]) -> tuple[float, float]:
    """Stall and time until durable, in seconds, of a checkpoint that is written while steps are done."""
    finished: list[float] = []
    os.sync()
    started = time.perf_counter()
    writing = begin()
    stall = time.perf_counter() - started
    writing.add_done_callback(lambda _: finished.append(time.perf_counter()))
    while not writing.done():
        step(run)
    writing.result()
    return stall, finished[0] - started


def ours(run: Any) -> tuple[float, float]:
    """Of the project."""
    run.checkpoints.wait()

    def begin() -> Future[Any]:
        run.checkpoints.save(run.progress)
        writing: Future[Any] = run.checkpoints._writing
        return writing

    return beside(run, begin)


def torchs(run: Any, folder: Path) -> tuple[float, float]:
    """Of torch."""
    import torch.distributed.checkpoint as dcp

    shutil.rmtree(folder, ignore_errors=True)
    state = {name: tensor.detach() for name, tensor in run.checkpoints.model.named_parameters()}
    state |= {f"{piece.key} {piece.name}": piece.tensor for piece in run.engine.state().pieces}
    return beside(run, lambda: dcp.async_save(state, checkpoint_id=folder))


def loads(run: Any, job: Any, root: Path) -> float:
    """Seconds to take up the state of two ranks in one process, once the engine is there."""
    from mm1.checkpoint.read import load_model, load_state
    from mm1.checkpoint.resume import newest_checkpoint, publish_checkpoint
    from mm1.checkpoint.write import put_rank_state

    store = run.checkpoints.store
    saved = newest_checkpoint(store, job.key)
    state = run.engine.state()
    names = sorted(state.numbers)
    trainer = {"state.json": saved.trainer["state.json"]}
    for rank in range(2):
        own = state.only(set(names[rank::2]))
        trainer |= put_rank_state(store, rank, 2, own.pieces, own.numbers, own.scalars, root / f"rank{rank}")
    publish_checkpoint(store, "two", saved.model_copy(update={"world_size": 2, "trainer": trainer}))
    started = time.perf_counter()
    checkpoint = newest_checkpoint(store, "two")
    load_model(store, checkpoint, root / "loaded", verify=False)
    run.engine.load_state(load_state(store, checkpoint).optimizer)
    return time.perf_counter() - started


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1, help="of the training")
    options = parser.parse_args()
    os.environ |= PROCESS_SETTINGS | {"OMP_NUM_THREADS": str(options.threads)}
    if os.environ.get("MM1_BENCH_STARTED") != "1":  # the allocator reads its settings at the start of a process
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"MM1_BENCH_STARTED": "1"})
    root = Path(tempfile.mkdtemp(prefix="mm1-bench-"))
    try:
        run, job = build(root, "store")
        for _ in range(3):
            step(run)
        num_bytes = 12 * run.engine.num_trained
        print(f"state: {num_bytes / 1e6:.0f} MB")
        found: dict[str, list[tuple[float, float]]] = {"MM1": [], "torch DCP async_save": []}
        ours(run), torchs(run, root / "dcp")  # buffers are allocated
        for _ in range(options.rounds):
            found["MM1"].append(ours(run))
            found["torch DCP async_save"].append(torchs(run, root / "dcp"))
        for name, rows in found.items():
            stall, durable = (statistics.median(column) for column in zip(*rows, strict=True))
            worst = max(stall for stall, _ in rows)
            print(f"{name}: stall {stall:.3f} s (worst {worst:.3f}), durable after {durable:.2f} s")
        print("wanted: stall at most 0.10 s, durable after at most 0.60 s and before DCP")
        loading = statistics.median(loads(run, job, root) for _ in range(3))
        print(f"load onto another number of ranks: {loading:.2f} s; wanted at most 2 s")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
