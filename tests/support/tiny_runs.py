"""Training runs small enough for tests: a mixture in a store, overrides that shrink the laptop recipes, one-process engines."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from mm1.config.resolve import resolve
from mm1.data.load.freeze import hold_out
from mm1.data.load.open_mix import open_indexes
from mm1.manifests import DataMix, RawData, digest_of_manifest, load_digest, manifest_key, publish
from mm1.recipes import registry
from mm1.store.local import LocalStore
from mm1.train.config import RunConfig, TrainJob
from mm1.train.model_origin import settle_parts
from tests.support.mixtures import build_mix, make_samples

SMALL_PARTS = (
    "model.vision.hidden_size=32",
    "model.vision.ffn_size=64",
    "model.connector.hidden_size=16",
    "model.decoder.hidden_size=32",
    "model.decoder.num_layers=2",
    "model.decoder.num_heads=2",
    "model.decoder.num_kv_heads=1",
    "model.decoder.head_size=16",
    "model.decoder.ffn_size=64",
)
SMALL_TRAIN = (
    "train.steps=8",
    "train.global_batch=4",
    "train.micro_batch=2",
    "train.checkpoint_every=2",
    "log.progress_every_s=0.01",
)
MIX = {"captions": 0.45, "interleaved": 0.45, "text": 0.1}


def small_run(recipe: str, *overrides: str) -> RunConfig:
    """A laptop recipe at width 32, 4 sequences a step."""
    parts = () if recipe == "mm1_tiny_sft" else SMALL_PARTS
    return resolve(registry.get(recipe), [*parts, *SMALL_TRAIN, *overrides])


def small_mix(root: Path, weights: dict[str, float] | None = None) -> tuple[LocalStore, str, DataMix]:
    """A store with a mixture of invented samples; its address and manifest."""
    store = LocalStore(root / "store")
    weights = weights or MIX
    samples = {name: make_samples(name, 40) for name in weights}
    _, mix = build_mix(store, root / "raw", weights=weights, samples=samples)
    return store, f"{store.uri}/{manifest_key(digest_of_manifest(mix))}", mix


def holding_out(store: LocalStore, mix: DataMix, holdout: str) -> tuple[str, DataMix]:
    """The same mixture with held-out samples; its address and manifest."""
    raw = load_digest(store, mix.raw)
    assert isinstance(raw, RawData)
    indexes = {number: open_indexes(store, raw, source) for number, source in enumerate(mix.sources)}
    held = hold_out(store, mix, raw, indexes, holdout)
    return publish(store, held), held


def job_of(config: RunConfig, store: LocalStore, data: str, folder: Path, key: str = "work") -> TrainJob:
    """A job without a start checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    config = settle_parts(config, "", "", "")
    return TrainJob(config=config, data=data, store=store.uri, key=key, folder=str(folder), threads=1)


def one_process() -> None:
    """Join a process group of this process alone, as torchrun would let it."""
    from mm1.train.engine import start_processes

    if "MASTER_PORT" not in os.environ:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    start_processes()
