"""Training steps of the family on one GPU: ``python tests/bench/bench_gpu.py [STEPS]`` (`make bench-gpu`).

Tokens a second and MFU (mm1.train.flops: useful work over the device's peak) of whole optimizer steps on invented packed
batches: mm1_1b as it is; with 8 experts in every 6th layer, which fit 80 GB with their optimizer's state; and with nothing
recomputed, where that fits. Where there is no GPU it says so.
"""

from __future__ import annotations

import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

DOCUMENTS = 10
WARM_UP, STEPS = 3, 10
ONE_GPU = ("train.zero_stage=1", "train.expert_parallel=1")
EXPERTS = ("model.decoder.num_experts=8", "model.decoder.sparse_every=6")
RUNS = {
    "mm1_1b": ("train.global_batch=8",),
    "mm1_1b, 8 experts in every 6th layer": ("train.global_batch=8", *EXPERTS),
    "mm1_1b, nothing recomputed": ("train.global_batch=2", "train.micro_batch=1", "train.gradient_checkpointing=false"),
}


@dataclass(frozen=True)
class Measured:
    """Medians over the steps of one run."""

    seconds: float
    """Of one step."""
    tokens: int
    flops: int


def measure(recipe: str, overrides: tuple[str, ...], device: str, warm_up: int = WARM_UP, steps: int = STEPS) -> Measured:
    """Train on one synthetic batch, again and again."""
    import torch

    from mm1.config.resolve import resolve
    from mm1.recipes import registry
    from mm1.train.flops import count_flops
    from tests.support.synthetic import release, synthetic_batch, training_step, work_of

    config = resolve(registry.get(recipe), [*ONE_GPU, *overrides])
    step = training_step(config, device)
    batch_plan, sequence = step.engine.batch_plan, config.sequence
    batch = synthetic_batch(step.engine.model.config, sequence, batch_plan.micro_batch, DOCUMENTS)
    found = []
    for _ in range(warm_up + steps):
        started = time.perf_counter()
        step([dict(batch)] * batch_plan.accumulation, rate_factor=1.0)
        if device == "cuda":
            torch.cuda.synchronize()
        found.append(time.perf_counter() - started)
    flops = count_flops(step.engine.model.config).step(work_of(batch, DOCUMENTS, sequence)).total * batch_plan.accumulation
    release(step)
    return Measured(statistics.median(found[warm_up:]), batch_plan.global_batch * sequence.length, flops)


def main() -> None:
    """Measure and print."""
    import torch

    from mm1.train.flops import peak_flops, utilisation

    if not torch.cuda.is_available():
        print("no GPU: nothing is measured (torch.cuda.is_available() is False)")
        return
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    name = torch.cuda.get_device_name()
    peak = peak_flops(name)
    print(f"{name}, torch {torch.__version__}; median of {steps} steps after {WARM_UP}")
    for label, overrides in RUNS.items():
        torch.cuda.reset_peak_memory_stats()
        try:
            run = measure("mm1_1b", overrides, "cuda", steps=steps)
        except torch.cuda.OutOfMemoryError:
            print(f"{label}: more than this GPU's memory")
            continue
        mfu = f"MFU {utilisation(run.flops, run.seconds, 1, peak):.1%}" if peak else "MFU unknown (GPU not in mm1.train.flops)"
        memory = torch.cuda.max_memory_allocated() / 2**30
        speed = f"{run.tokens / run.seconds:,.0f} tokens/s, {run.seconds:.2f} s a step of {run.tokens:,} tokens"
        print(f"{label}: {speed}, {mfu}, {memory:.0f} GiB")


if __name__ == "__main__":
    main()
