"""Data, runs and served models as a store has them, made of manifests and records alone: nothing is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from mm1.data.features.new_data import LastMix, record_mix
from mm1.data.features.rows import push_raw
from mm1.errors import Outcome
from mm1.lineage.records import record_key
from mm1.lineage.serving import Change, record
from mm1.manifests import (
    Checkpoint,
    DataMix,
    Deployment,
    MixSource,
    RawData,
    Shard,
    SourceData,
    manifest_key,
    publish,
    split_uri,
)
from mm1.store.base import BlobRef
from mm1.store.local import LocalStore
from mm1_components.decide import STEP
from mm1_components.wrapper.arguments import build_parser
from mm1_components.wrapper.execute import execute

OLD = datetime.now(UTC) - timedelta(days=30)
SOURCES = "captions text"
SAMPLES = 100
"""Samples of a shard."""


def blob(text: str) -> BlobRef:
    """A blob that does not exist."""
    return BlobRef(sha256=hashlib.sha256(text.encode()).hexdigest(), num_bytes=1)


def source(name: str, first: int, last: int, words: float = 20.0) -> SourceData:
    """Shards of a source, by number; their mean length varies by 2 words."""
    random = np.random.default_rng(len(name))
    lengths = words + 2 * random.normal(size=last)
    shards = [
        Shard(
            name=f"{name}-{number}",
            tar=blob(f"{name} {number} {words}"),
            index=blob("index"),
            num_samples=SAMPLES,
            num_images=SAMPLES,
            num_text_tokens=round(SAMPLES * lengths[number]),
            features={"mean_words": float(lengths[number]), "english_share": 1.0},
        )
        for number in range(first, last)
    ]
    return SourceData(format="test", preset="toy", num_read=SAMPLES * (last - first), shards=tuple(shards))


class Site:
    """A store with data that were mixed once, and the step that decides."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = LocalStore(folder / "store")
        self.shards: dict[str, list[Shard]] = {"captions": [], "text": []}
        self.outputs: dict[str, str] = {}

    def arrive(self, number: int, at: datetime, words: float = 20.0) -> str:
        """Let shards of each source arrive; the address of all data."""
        sources = {}
        for name, shards in self.shards.items():
            shards += source(name, len(shards), len(shards) + number, words).shards
            sources[name] = SourceData(format="test", preset="toy", num_read=SAMPLES, shards=tuple(shards))
        raw = RawData(sources=sources, tokenizer={"tokenizer.json": blob("tokenizer")})
        push_raw(self.store, raw, at)
        return publish(self.store, raw)

    def mix(self, data: str, as_of: datetime) -> str:
        """Mix data; the address of the mixture, which is the last one from now on."""
        digest = split_uri(data)[1]
        given = {"weight": 0.5, "num_samples": 1, "num_images": 1, "num_text_tokens": 1}
        mix = DataMix(
            parents=(digest,),
            raw=digest,
            sources=tuple(MixSource(name=name, **given) for name in self.shards),
            order_seed=0,
            sequence_length=64,
            max_images=1,
            image_tokens=1,
            image_size_px=16,
            packing={},
            tokenizer={"tokenizer.json": blob("tokenizer")},
        )
        uri = publish(self.store, mix)
        record_mix(self.store, list(self.shards), LastMix(split_uri(uri)[1], as_of))
        return uri

    def serve(self, mix: str, at: datetime) -> tuple[str, str]:
        """Serve a model trained on a mixture; addresses of its pre-trained Checkpoint and its Deployment."""
        counts = {"step": 1, "total_steps": 1, "sequences_seen": 1, "tokens_seen": 1, "images_seen": 1}
        common = {"recipe": "r", "config": {}, "world_size": 1, "num_parameters": 1, **counts}
        data = split_uri(mix)[1]
        tokenizer = {"tokenizer.json": blob("tokenizer")}
        base = publish(self.store, Checkpoint(parents=(data,), stage="text", model=tokenizer, **common))
        parents = (data, split_uri(base)[1])
        pretrained = publish(self.store, Checkpoint(parents=parents, stage="pretrain", model=tokenizer, **common))
        tuned = Checkpoint(parents=(data, split_uri(pretrained)[1]), stage="sft", model=tokenizer, **common)
        deployment = Deployment(parents=(split_uri(publish(self.store, tuned))[1],), deployed=True, reason="passed")
        address = publish(self.store, deployment)
        change = Change(action="promoted", deployment=split_uri(address)[1], time=at, by="run-0", reason="passed")
        record(self.store, "mm1", change)
        return pretrained, address

    def decide(self, data: str, run: str, **inputs: Any) -> str:
        """Run the step; its decision. The other outputs are in `outputs`."""
        outputs = [name for name in STEP.outputs.model_fields]
        places = [f"--out.{name}={self.folder / 'out' / name}" for name in outputs]
        options = [f"--{name.replace('_', '-')}={value}" for name, value in {"sources": SOURCES, **inputs}.items()]
        places += [f"--artifact.summary.md={self.folder / 'summary.md'}", f"--store={self.folder / 'store'}", f"--run={run}"]
        self.outcome = execute(STEP, build_parser(STEP).parse_args([f"--data={data}", *options, *places]))
        if self.outcome is Outcome.DONE:
            self.outputs = {name: (self.folder / "out" / name).read_text() for name in outputs}
        return self.outputs["decision"] if self.outcome is Outcome.DONE else ""

    def task(self, run: str, step: str, outcome: Outcome | None = Outcome.DONE, **fields: Any) -> None:
        """Record a task of a run; without an outcome it is running, or was killed."""
        state = {Outcome.DONE: "done", None: "running"}.get(outcome, "failed")
        fields = {"facts": {}, "inputs": {}} | fields
        now = datetime.now(UTC).isoformat()
        base: Mapping[str, Any] = {"run": run, "task": step, "step": step, "state": state, "started": now, "alive": now}
        ended = {} if outcome is None else {"outcome": int(outcome), "ended": now, "seconds": 3600.0}
        self.store.write_json(record_key(run, step), {**base, **ended, **fields})

    @property
    def state(self) -> dict[str, Any]:
        """What the store has about retrainings."""
        return self.store.read_json("retraining/mm1.json") or {}

    def address(self, digest: str) -> str:
        """Address of a manifest."""
        return f"{self.store.uri}/{manifest_key(digest)}"
