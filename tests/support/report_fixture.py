"""A whole run in a store, without training anything: records, manifests, real shards, histories, reports with images.

Images, questions and texts come from a tiny toy world, shards are written by the data room's writer, manifests are the real
classes; only the figures (losses, scores, times) are made up, by formulas that look like a real run.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from mm1.data.sample import ImagePart, Sample, TextPart
from mm1.data.shards import ShardWriter, write_index
from mm1.data.tokenizer import TextTokenizer, train_bpe
from mm1.manifests import (
    DataMix,
    Deployment,
    ExportedModel,
    GateDecision,
    MixSource,
    RawData,
    Shard,
    SourceData,
    digest_of_manifest,
    publish,
)
from mm1.store.base import Store, blob_key, digest_of
from mm1.world.config import WorldConfig
from mm1.world.write import write_part
from tests.support.report_figures import Benchmarks, make_checkpoint, make_decision, make_metrics, make_report

BEGIN = datetime(2026, 11, 24, 13, 5, 0, tzinfo=UTC)
HOST = {"name": "laptop", "processor": "AMD EPYC 7B13", "cores": 2}
WEIGHTS = {"captions": 0.45, "interleaved": 0.45, "text": 0.10}


@dataclass
class Builder:
    """Publishes manifests and records step by step."""

    store: Store
    run: str
    seconds: float = 0.0

    def record(
        self,
        task: str,
        step: str,
        outputs: dict[str, Any],
        *,
        seconds: float,
        after: float | None = None,
        inputs: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """A task's record; tasks follow each other unless ``after`` gives the start in seconds."""
        start = self.seconds if after is None else after
        self.seconds = max(self.seconds, start + seconds)
        begin = BEGIN + timedelta(seconds=start)
        record = {
            "schema_version": 1,
            "run": self.run,
            "task": task,
            "step": step,
            "state": "done",
            "started": begin.isoformat(timespec="milliseconds"),
            "ended": (begin + timedelta(seconds=seconds)).isoformat(timespec="milliseconds"),
            "seconds": seconds,
            "attempts": 1,
            "outcome": 0,
            "message": "",
            "host": HOST,
            "cache_hit": False,
            "cache_key": digest_of(task.encode()),
            "code": digest_of(step.encode()),
            "inputs": inputs or {},
            "outputs": outputs,
            "facts": {},
        }
        self.store.write_json(f"runs/{self.run}/{task}.json", record | more)


def build_run(store: Store, run: str = "full-7", *, hostile: str = "", fail_at: str = "", cached: tuple[str, ...] = ()) -> str:
    """Publish a run of the whole chain.

    Args:
        store: where it goes.
        run: its name.
        hostile: a text that is put wherever text from data can be (tests of escaping).
        fail_at: a task that fails; nothing after it is there.
        cached: tasks that came from the cache.
    """
    with tempfile.TemporaryDirectory() as folder:
        bench = Benchmarks(write_part("benchmarks", Path(folder) / "world", WorldConfig.small()) / "test")
        builder = Builder(store, run)
        for name, work in _Chain(builder, bench, Path(folder), hostile).tasks():
            if name == fail_at:
                message = f"optim.lr: loss is not finite at step 212 {hostile}".strip()
                builder.record(name, name, {}, seconds=31.2, state="failed", outcome=82, message=message, attempts=2)
                break
            uri = work()
            if name in cached:
                record = store.read_json(f"runs/{run}/{name}.json")
                entry = {"outputs": {}, "artifacts": record.pop("artifacts", {})}
                store.write_json(f"cache/{record['step']}/{record['cache_key']}.json", entry)
                store.write_json(f"runs/{run}/{name}.json", record | {"cache_hit": True, "seconds": 0.21, "outputs": uri})
    return run


@dataclass
class _Chain:
    """The tasks of the run, in order."""

    builder: Builder
    bench: Benchmarks
    folder: Path
    hostile: str
    made: dict[str, Any] = field(default_factory=dict)
    """Task -> manifest, digest, address."""

    def put(self, task: str, step: str, manifest: Any, seconds: float, **more: Any) -> dict[str, Any]:
        uri = publish(self.builder.store, manifest)
        self.made[task] = (manifest, digest_of_manifest(manifest), uri)
        extra = {"decision": manifest.decision} if isinstance(manifest, GateDecision) else {}
        self.builder.record(task, step, outputs := {"manifest": uri, **extra}, seconds=seconds, **more)
        return outputs

    def uri(self, task: str) -> str:
        return self.made[task][2]

    def mix(self, task: str, names: tuple[str, ...]) -> Any:
        raw, digest, _ = self.made["ingest"]
        inputs = {"data": self.uri("ingest"), "sequence_length": 128}
        return self.put(task, "data_mix", _mix(raw, digest, names), 3.4, inputs=inputs, after=21.0)

    def train(self, task: str, data: str, init: str, stage: str, recipe: str, steps: int, seconds: float) -> Any:
        parents = [self.made[data][1]] + ([self.made[init][1]] if init else [])
        made_model = make_checkpoint(self.builder.store, stage, recipe, steps, tuple(parents), self.made[data][0])
        inputs = {"data": self.uri(data), "recipe": recipe, "init": self.uri(init) if init else "", "processes": 1, "seed": 0}
        facts = {"tokens_per_second": 9120.4, "threads": 2, "padding_share": 0.031, "torch": "2.13.0"}
        facts |= {"phases_s": {"forward": 30.0, "backward": 50.0, "data": 15.0, "other": 5.0}, "goodput": 0.914}
        facts |= {"wall_time": {"wall_s": 110.0, "steps_s": 100.0, "startup_s": 8.5, "lost_s": 1.5, "away_s": 0.0, "starts": 2}}
        facts |= {"slowest_rank": 3, "slowest_rank_slower": 0.14} if stage == "pretrain" else {}
        step = "sft" if stage == "sft" else "pretrain"
        rows = self.builder.store.put_bytes(make_metrics(steps, mfu=0.31 if stage == "pretrain" else 0.0))
        if stage == "pretrain":
            facts["files"] = {"trace.json.gz": f"{self.builder.store.uri}/{blob_key(self.builder.store.put_bytes(b'trace'))}"}
        artifacts = {"metrics.jsonl": rows.model_dump()}
        return self.put(task, step, made_model, seconds, inputs=inputs, facts=facts, artifacts=artifacts)

    def evaluate(self, task: str, model: str, tuned: bool, seconds: float) -> Any:
        scored = make_report(self.builder.store, self.bench, self.made[model][1], tuned, self.hostile)
        inputs = {"checkpoint": self.uri(model), "benchmarks": "world:0", "shots": "0 4 8", "items": 256}
        return self.put(task, "evaluate", scored, seconds, inputs=inputs, after=239.0 if not tuned else None)

    def gate(self) -> Any:
        tuned, digest, _ = self.made["evaluate-sft"]
        decision = make_decision(tuned, (digest, self.made["evaluate-base"][1]))
        return self.put(
            "gate", "gate", decision, 0.4, inputs={"reports": f"{self.uri('evaluate-base')} {self.uri('evaluate-sft')}"}
        )

    def deploy(self) -> Any:
        export = ExportedModel(
            parents=(self.made["sft"][1],),
            checkpoint=self.made["sft"][1],
            files={},
            contract={"max_logit_difference": 2.4e-6, "tokens_compared": 24.0},
        )
        publish(self.builder.store, export)
        item = self.bench.items("instruct")[6]
        ref = self.builder.store.put_bytes(item["image"])
        deployment = Deployment(
            parents=(digest_of_manifest(export), self.made["gate"][1]),
            deployed=True,
            reason="",
            exported=digest_of_manifest(export),
            sample={"question": item["question"] + self.hostile, "answer": item["answer"] + self.hostile, "image": ref.sha256}
            | ({"expected": "a big ring" + self.hostile} if self.hostile else {}),
            images={"question.jpg": ref},
        )
        inputs = {"checkpoint": self.uri("sft"), "decision": "pass"}
        return self.put("deploy", "deploy", deployment, 11.8, inputs=inputs)

    def tasks(self) -> list[tuple[str, Any]]:
        """Name of each task, and the function that makes it."""
        return [
            (
                "ingest",
                lambda: self.put(
                    "ingest",
                    "ingest",
                    _raw(self.builder.store, self.bench, self.folder, self.hostile),
                    20.8,
                    inputs={"preset": "toy"},
                ),
            ),
            ("mix-text", lambda: self.mix("mix-text", ("text",))),
            ("mix", lambda: self.mix("mix", ("captions", "interleaved", "text"))),
            ("mix-instructions", lambda: self.mix("mix-instructions", ("instructions",))),
            ("text-base", lambda: self.train("text-base", "mix-text", "", "text", "mm1_tiny_lm", 600, 84.0)),
            ("pretrain", lambda: self.train("pretrain", "mix", "text-base", "pretrain", "mm1_tiny_moe", 700, 130.0)),
            ("sft", lambda: self.train("sft", "mix-instructions", "pretrain", "sft", "mm1_tiny_sft", 150, 42.0)),
            ("evaluate-base", lambda: self.evaluate("evaluate-base", "pretrain", False, 55.0)),
            ("evaluate-sft", lambda: self.evaluate("evaluate-sft", "sft", True, 48.0)),
            ("gate", self.gate),
            ("deploy", self.deploy),
        ]


def _raw(store: Store, bench: Benchmarks, folder: Path, hostile: str) -> RawData:
    samples = _samples(bench, hostile)
    tokenizer = train_bpe([text for items in samples.values() for item in items for text in item.texts()], folder / "bpe", 512)
    sources = {}
    formats = {"captions": "img2dataset", "interleaved": "obelics", "text": "jsonl", "instructions": "llava"}
    for name, items in samples.items():
        with ShardWriter(folder / "shards", name) as writer:
            for item in items:
                writer.add(item)
        (written,) = writer.shards
        index, tokens = write_index(written, TextTokenizer.from_folder(tokenizer))
        shard = Shard(
            name=written.path.name,
            tar=store.put_file(written.path),
            index=store.put_file(index),
            num_samples=len(items),
            num_images=sum(len(item.images) for item in items),
            num_text_tokens=tokens,
        )
        dropped = (
            {"duplicate": 31, "caption_too_short": 4} if name == "captions" else {"duplicate": 2} if name == "text" else {}
        )
        sources[name] = SourceData(
            format=formats[name], preset="toy", num_read=len(items) + sum(dropped.values()), dropped=dropped, shards=(shard,)
        )
    return RawData(sources=sources, tokenizer=store.put_folder(tokenizer))


def _samples(bench: Benchmarks, hostile: str) -> dict[str, list[Sample]]:
    captions = [
        Sample(f"cap-{i:04d}", "captions", [ImagePart(0), TextPart(item["answer"] + " ." + hostile)], [item["image"]])
        for i, item in enumerate(bench.captions("captions"))
    ]
    pages = []
    demos = bench.items("novel_demo")
    for i in range(0, len(demos) - 7, 8):
        parts = [part for n in range(8) for part in (ImagePart(n), TextPart(f"this is {demos[i + n]['answer']} ."))]
        pages.append(Sample(f"page-{i:04d}", "interleaved", parts, [demo["image"] for demo in demos[i : i + 8]]))
    texts = [
        Sample(f"text-{i:04d}", "text", [TextPart(f"{item['prompt']} {item['answer']} ." + hostile)])
        for i, item in enumerate(bench.texts())
    ]
    chats = []
    for i, item in enumerate(bench.items("instruct")):
        parts = [
            TextPart("<|im_start|>user\n", loss=False),
            ImagePart(0),
            TextPart(item["question"] + "<|im_end|>\n", loss=False),
        ]
        parts += [TextPart("<|im_start|>assistant\n", loss=False), TextPart(item["answer"] + "<|im_end|>\n")]
        chats.append(Sample(f"chat-{i:04d}", "instructions", parts, [item["image"]]))
    return {"captions": captions, "interleaved": pages, "text": texts, "instructions": chats}


def _mix(raw: RawData, digest: str, names: tuple[str, ...]) -> DataMix:
    sources = tuple(
        MixSource(
            name=name,
            weight=WEIGHTS.get(name, 1.0) if len(names) > 1 else 1.0,
            num_samples=raw.sources[name].num_samples,
            num_images=raw.sources[name].num_images,
            num_text_tokens=raw.sources[name].num_text_tokens,
        )
        for name in names
    )
    packing = {"sequences": 2000.0}
    for place, name in enumerate(("", *names)):
        figures = {
            "fill": 0.969 - 0.01 * place,
            "tokens_per_sequence": 124.1,
            "images_per_sequence": 0.0 if name == "text" else 8.31,
        }
        figures |= {"documents_per_sequence": 7.4 + place, "cut_share": 0.001}
        packing |= {f"{name}/{figure}".removeprefix("/"): value for figure, value in figures.items()}
    return DataMix(
        parents=(digest,),
        raw=digest,
        sources=sources,
        order_seed=0,
        sequence_length=128,
        max_images=16,
        image_tokens=4,
        image_size_px=32,
        packing=packing,
        tokenizer=raw.tokenizer,
    )
