"""What an engine does with gradients, as one rank of several: ``torchrun ... -m tests.support.engine_program FOLDER``.

Each rank writes what it has seen to ``rank-R.json`` in the folder; tests/integration/test_train_gradients.py judges it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

from mm1.train.batch_plan import BatchPlan
from mm1.train.config import OptimConfig, TrainConfig
from mm1.train.engine import Engine, start_processes
from mm1.train.randomness import seed_step
from tests.support.tiny_model import packed_batch, tiny_model

LAYOUTS: dict[str, dict[str, Any]] = {
    "zero0": {"zero_stage": 0},
    "zero1": {"zero_stage": 1},
    "zero2": {"zero_stage": 2},
    "zero3": {"zero_stage": 3},
    "zero1-experts": {"zero_stage": 1, "expert_parallel": 2},
    "zero2-experts": {"zero_stage": 2, "expert_parallel": 2},
    "zero3-experts": {"zero_stage": 3, "expert_parallel": 2},
}
ADAFACTOR: dict[str, dict[str, Any]] = {
    "plain": {"name": "adafactor", "clip": 0.5},
    "relative with momentum": {"name": "adafactor", "parameter_scale": True, "first_moment": 0.9, "weight_decay": 0.1},
}


def engine_of(layout: str, *, dtype: str = "float32", accumulation: int = 1, optim: dict | None = None, **train: Any) -> Engine:
    """An engine of the tiny model, with experts where they are shared."""
    fields = {"steps": 9, "global_batch": 2 * accumulation, "micro_batch": 1, "checkpoint_every": 9, "dtype": dtype}
    model = tiny_model(moe="experts" in layout).train()
    weight = torch.bfloat16 if dtype == "bfloat16" and LAYOUTS[layout]["zero_stage"] else torch.float32
    return Engine(
        model.to(weight),
        peak_lr=1e-2,
        optim=OptimConfig(**({"name": "adamw", "clip": 0.5} | (optim or {}))),
        train=TrainConfig(**(fields | LAYOUTS[layout] | train)),
        batch_plan=BatchPlan(2 * accumulation, dist.get_world_size(), 1, accumulation),
    )


def learn(engine: Engine, seed: int, factor: float = 1.0) -> float:
    """Forward and backward of the micro-batches of a step; the norm of the whole gradient."""
    for number in range(engine.batch_plan.accumulation):
        if number:
            engine.finish_micro_batch()
        batch = packed_batch([[9, 8]], seed=100 * seed + 10 * number + dist.get_rank())
        engine.backward(factor * engine(**batch, use_cache=False).loss)
    return float(engine.all_sum(engine.squared_norm())) ** 0.5


def fingerprint(engine: Engine) -> str:
    """Digest of this rank's weights and optimizer state."""
    digest = hashlib.sha256()
    state = engine.state()
    pieces = sorted(state.pieces, key=lambda piece: (piece.name, piece.key, piece.offset))
    for piece in pieces:
        digest.update(f"{piece.name} {piece.key} {piece.offset}".encode() + piece.tensor.detach().float().numpy().tobytes())
    digest.update(json.dumps(state.numbers, sort_keys=True).encode())
    weights = engine.weights()
    for name, weight in sorted((dict(engine.model.named_parameters()) if weights is None else weights).items()):
        digest.update(name.encode() + weight.detach().float().numpy().tobytes())
    return digest.hexdigest()


SENT: Counter[str] = Counter()
"""Elements that have been summed over processes, by dtype."""


def count_reductions() -> None:
    """Count in :data:`SENT` from now on; before DeepSpeed is imported, because it keeps some of these functions."""

    def counting(original: Any) -> Any:
        def counted(*arguments: Any, **named: Any) -> Any:
            tensors = [value for value in (*arguments, *named.values()) if isinstance(value, torch.Tensor)]
            if tensors := [tensor for tensor in tensors if tensor.is_floating_point()]:
                largest = max(tensors, key=torch.Tensor.numel)  # of a reduce-scatter the larger tensor is what is summed
                SENT[str(largest.dtype).removeprefix("torch.")] += largest.numel()
            return original(*arguments, **named)

        return counted

    for name in ("all_reduce", "reduce_scatter_tensor", "reduce_scatter", "reduce"):
        setattr(dist, name, counting(getattr(dist, name)))


def reduced(layout: str, accumulation: int, reduce_dtype: str) -> dict[str, Any]:
    """Share of the gradient that is summed in each dtype during the second step of a bfloat16 run."""
    engine = engine_of(layout, dtype="bfloat16", accumulation=accumulation, reduce_dtype=reduce_dtype)
    engine.step(1.0, learn(engine, 0))
    SENT.clear()
    engine.step(1.0, learn(engine, 1))
    return {"sent": dict(SENT), "parameters": sum(getattr(weight, "ds_numel", weight.numel()) for weight in engine.trained)}


def skipped(layout: str, dtype: str, accumulation: int, optim: dict, **train: Any) -> dict[str, Any]:
    """A step is skipped between two others: what that changes, and whether the next one is as without it."""
    result: dict[str, Any] = {}
    ends = []
    for poisoned in (True, False):
        engine = engine_of(layout, dtype=dtype, accumulation=accumulation, optim=optim, **train)
        norms = [learn(engine, 0)]
        engine.step(1.0, norms[0])
        before = fingerprint(engine)
        if poisoned:
            result["poisoned norm"] = learn(engine, 1, factor=1e4)
            engine.skip_step()
            result["unchanged"] = fingerprint(engine) == before
        norms.append(learn(engine, 2))
        engine.step(1.0, norms[1])
        result["changed"] = fingerprint(engine) != before
        ends.append((norms, fingerprint(engine)))
        result["norms"] = norms
    return result | {"as without it": ends[0] == ends[1]}


def trained(folder: Path, name: str, layout: str, optim: dict, **train: Any) -> None:
    """Three steps; the weights go to a file on rank 0."""
    engine = engine_of(layout, accumulation=2, optim=optim, **train)
    for step in range(3):
        engine.step(1.0, learn(engine, step))
    weights = engine.weights()
    if dist.get_rank() == 0:
        own = dict(engine.model.named_parameters()) if weights is None else weights
        torch.save({key: weight.detach().clone().contiguous() for key, weight in own.items()}, folder / f"{name}.pt")


def dropped_out() -> list[int]:
    """Elements that dropout keeps on this rank, in two steps."""
    kept = []
    for step in (0, 1):
        seed_step(0, dist.get_rank(), step)
        kept.append(int(torch.nn.functional.dropout(torch.ones(32), 0.5).bool().int().dot(2 ** torch.arange(32).int())))
    return kept


def main() -> None:
    torch.set_num_threads(1)
    count_reductions()
    rank, _ = start_processes()
    seen: dict[str, Any] = {"dropout": dropped_out()}
    for layout in LAYOUTS:
        for accumulation in (1, 2) if layout != "zero0" else ():
            seen[f"reduced {layout} accumulation{accumulation}"] = reduced(layout, accumulation, "float32")
        for dtype, accumulation in (("float32", 2), ("bfloat16", 1)):
            seen[f"skipped {layout} {dtype}"] = skipped(layout, dtype, accumulation, {})
    seen["reduced in bfloat16"] = reduced("zero2", 1, "bfloat16")
    for layout in ("zero1", "zero2", "zero3"):
        seen[f"skipped {layout} offload"] = skipped(layout, "float32", 1, {}, offload="optimizer")
    for layout in ("zero0", "zero1", "zero2"):
        seen[f"skipped {layout} muon"] = skipped(layout, "float32", 2, {"name": "muon", "clip": 0.0})
        seen[f"skipped {layout} adafactor"] = skipped(layout, "float32", 2, ADAFACTOR["relative with momentum"])
    for layout in ("zero0", "zero1", "zero2", "zero3"):
        for kind, optim in ADAFACTOR.items():
            trained(Path(sys.argv[1]), f"{layout} {kind}", layout, optim)
    trained(Path(sys.argv[1]), "zero2 offload", "zero2", ADAFACTOR["plain"], offload="optimizer")
    trained(Path(sys.argv[1]), "zero3 offload", "zero3", ADAFACTOR["plain"], offload="optimizer")
    trained(Path(sys.argv[1]), "zero1 bfloat16", "zero1", ADAFACTOR["plain"], dtype="bfloat16")
    trained(Path(sys.argv[1]), "zero2 bfloat16", "zero2", ADAFACTOR["plain"], dtype="bfloat16")
    (Path(sys.argv[1]) / f"rank-{rank}.json").write_text(json.dumps(seen))
    dist.barrier()
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
