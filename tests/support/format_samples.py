"""A small store with all that this version writes: shards, every kind of manifest, a checkpoint of unfinished training."""

from __future__ import annotations

import io
import signal
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import pytest

from mm1.checkpoint.resume import newest_checkpoint
from mm1.errors import Preempted
from mm1.manifests import (
    AnyManifest,
    DataMix,
    Deployment,
    EvalReport,
    ExportedModel,
    FilteredPart,
    FilteredParts,
    GateDecision,
    GateRule,
    IngestPlan,
    Manifest,
    MergedParts,
    PlannedSource,
    RawData,
    RawFile,
    RawPart,
    ReportPage,
    Score,
    ShardedPart,
    ShardedParts,
    digest_of_manifest,
    publish,
)
from mm1.store.base import Store
from mm1.store.local import LocalStore
from mm1.train.build import build_run
from mm1.train.config import RunConfig
from tests.support.mixtures import build_mix, make_samples
from tests.support.tiny_runs import job_of, small_run

KEY = "work"
KINDS = {kind.__name__ for kind in get_args(get_args(AnyManifest)[0])}
SMALLEST = (
    *("model.vision.hidden_size=4", "model.vision.ffn_size=4", "model.vision.num_layers=1", "model.connector.hidden_size=4"),
    *("model.decoder.hidden_size=4", "model.decoder.head_size=4", "model.decoder.ffn_size=4", "model.decoder.num_layers=1"),
    "train.steps=3",
)


def write_samples(archive: Path) -> None:
    """Write the store as a compressed tar; equal content gives nearly equal bytes."""
    with tempfile.TemporaryDirectory() as name:
        store = LocalStore(Path(name) / "store")
        store.make()
        samples = {source: make_samples(source, 8) for source in ("captions", "text")}
        raw, mix = build_mix(store, Path(name) / "raw", weights={"captions": 0.5, "text": 0.5}, samples=samples, vocabulary=264)
        for manifest in _others(store, raw, _train(store, mix, Path(name))):
            publish(store, manifest)
        with tarfile.open(archive, "w:xz") as file:
            for key in store.list(""):
                if not key.startswith("watch/"):
                    entry = tarfile.TarInfo(key)
                    data = store.read(key)
                    entry.size = len(data)
                    file.addfile(entry, io.BytesIO(data))


def unpack(archive: Path, folder: Path) -> LocalStore:
    """The store of an archive."""
    with tarfile.open(archive) as file:
        file.extractall(folder / "store", filter="data")
    return LocalStore(folder / "store")


@contextmanager
def handlers_kept() -> Iterator[None]:
    """A run takes over SIGTERM and SIGINT; afterwards they are as before."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _train(store: Store, mix: DataMix, folder: Path) -> str:
    """Stop after the first of three steps; the digest of the checkpoint."""
    config: RunConfig = small_run("mm1_tiny", *SMALLEST)
    run = build_run(job_of(config, store, publish(store, mix), folder / "run", key=KEY), 0, 1)
    run.loop.callbacks[-1].asked = signal.SIGTERM
    with handlers_kept(), pytest.raises(Preempted):
        run.go()
    checkpoint = newest_checkpoint(store, KEY)
    assert checkpoint is not None
    return digest_of_manifest(checkpoint)


def _others(store: Store, raw: RawData, checkpoint: str) -> Iterator[Manifest]:
    """One manifest of each kind that neither ingest nor training has made here."""
    blob = store.put_bytes(b"content of a blob")
    files, examples = {"folder/file.json": blob}, {"too_short": ("raw.jsonl, row 3: 2 words",)}
    shards = raw.sources["captions"].shards
    part = RawPart(source="captions", number=1, format="jsonl", files=(RawFile(name="a.jsonl", num_bytes=9, version="1"),))
    of_part = {"parents": (digest_of_manifest(part),), "source": "captions", "number": 1, "examples": examples}
    filtered = FilteredPart(
        **of_part, format="jsonl", preset="toy", num_read=9, dropped={"too_short": 1}, tars=(blob,), signatures=blob
    )
    planned = PlannedSource(num_files=1, num_bytes=9, left_out={"empty file": 1}, examples={"empty file": ("b.jsonl",)})
    plan = IngestPlan(sources={"captions": planned}, parts=(part,), num_batches=1)
    batch = FilteredParts(parents=(digest_of_manifest(plan),), batch=0, parts=(filtered,))
    merged = MergedParts(parents=(digest_of_manifest(batch),), drops={checkpoint: blob}, tokenizer=raw.tokenizer)
    sharded = ShardedPart(**of_part, dropped={"duplicate": 1}, shards=shards)
    score = Score(task="vqa", split="test", metric="accuracy", shots=4, value=0.5, stderr=0.1, num_items=9, chance=0.25)
    rule = GateRule(rule="vqa/4/accuracy >= 0.4", value=0.5, threshold=0.4, passed=True)
    exported = ExportedModel(parents=(checkpoint,), checkpoint=checkpoint, files=files, contract={"logits": 1e-6})
    yield from (part, plan, filtered, batch, merged, sharded, exported)
    yield ShardedParts(parents=(digest_of_manifest(merged), digest_of_manifest(batch)), batch=0, parts=(sharded,))
    yield EvalReport(
        checkpoint=checkpoint, benchmarks="0" * 64, config={"items": 9}, scores=(score,), examples=blob, images=files
    )
    yield GateDecision(checkpoint=checkpoint, decision="pass", rules=(rule,))
    yield Deployment(
        deployed=True, reason="passed", exported=digest_of_manifest(exported), sample={"question": "what ?"}, images=files
    )
    yield ReportPage(title="Report", page=blob)
