"""Manifests and run records of runs that never ran, for commands that read a store."""

from __future__ import annotations

from typing import Any

from mm1.manifests import (
    DataMix,
    EvalReport,
    Manifest,
    MixSource,
    RawData,
    Score,
    Shard,
    SourceData,
    digest_of_manifest,
    publish,
)
from mm1.store.base import Store

ZERO = "0" * 64


def raw(store: Store, word: str) -> RawData:
    blob = store.put_bytes(word.encode())
    shard = Shard(name="a.tar", tar=blob, index=blob, num_samples=3, num_images=2, num_text_tokens=9)
    source = SourceData(format="jsonl", preset="toy", num_read=3, shards=(shard,))
    return RawData(sources={"text": source}, tokenizer={})


def mix(store: Store, parent: RawData) -> DataMix:
    digest = digest_of_manifest(parent)
    source = MixSource(name="text", weight=1.0, num_samples=3, num_images=0, num_text_tokens=9)
    return DataMix(
        parents=(digest,), raw=digest, sources=(source,), order_seed=0, sequence_length=8, max_images=1, image_tokens=4,
        image_size_px=32, packing={"fill": 0.9}, tokenizer={},
    )  # fmt: skip


def report(store: Store, value: float) -> EvalReport:
    score = Score(task="vqa", split="test", metric="accuracy", shots=4, value=value, stderr=0.02, num_items=256)
    return EvalReport(checkpoint=ZERO, benchmarks=ZERO, config={}, scores=(score,), examples=store.put_bytes(b"{}"))


def record(store: Store, run: str, task: str, manifest: Manifest | None = None, **more: Any) -> str:
    uri = publish(store, manifest) if manifest else ""
    value = {
        "run": run, "task": task, "step": task, "state": "done", "outcome": 0, "message": "", "seconds": 2.0,
        "started": "2026-01-01T00:00:00.000+00:00", "ended": "2026-01-01T00:00:02.000+00:00", "inputs": {},
        "outputs": {"manifest": uri} if uri else {}, "cache_key": f"{run}-{task}", "cache_hit": False,
    }  # fmt: skip
    store.write_json(f"runs/{run}/{task}.json", value | more)
    return uri
