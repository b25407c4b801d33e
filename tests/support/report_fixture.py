"""A whole run in a store, without training anything: records, manifests, real shards, histories, reports with images.

Images, questions and texts come from a tiny toy world, shards are written by the data room's writer, manifests are the real
classes; only the figures (losses, scores, times) are made up, by formulas that look like a real run.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mm1.data.sample import ImagePart, Sample, TextPart
from mm1.data.shards import ShardWriter, write_index
from mm1.data.tokenizer import TextTokenizer, train_bpe
from mm1.manifests import (
    Checkpoint,
    DataMix,
    Deployment,
    EvalReport,
    ExportedModel,
    GateDecision,
    GateRule,
    MixSource,
    RawData,
    Score,
    Shard,
    SourceData,
    digest_of_manifest,
    publish,
)
from mm1.store.base import Store, digest_of
from mm1.world.config import WorldConfig
from mm1.world.write import write_part

BEGIN = datetime(2026, 11, 24, 13, 5, 0, tzinfo=UTC)
HOST = {"name": "laptop", "processor": "AMD EPYC 7B13", "cores": 2}
WEIGHTS = {"captions": 0.45, "interleaved": 0.45, "text": 0.10}


@dataclass
class Benchmarks:
    """The questions of a tiny toy world, with their images."""

    folder: Path
    images: dict[int, bytes] = field(default_factory=dict)

    def items(self, name: str) -> list[dict[str, Any]]:
        questions = json.loads((self.folder / f"{name}_questions.json").read_text())["questions"]
        answers = json.loads((self.folder / f"{name}_annotations.json").read_text())["annotations"]
        by_id = {item["question_id"]: item["multiple_choice_answer"] for item in answers}
        return [
            {"question": item["question"], "answer": by_id[item["question_id"]], "image": self.image(item["image_id"])}
            for item in questions
        ]

    def captions(self, name: str) -> list[dict[str, Any]]:
        tree = json.loads((self.folder / f"{name}.json").read_text())
        return [
            {"question": "", "answer": item["caption"], "image": self.image(item["image_id"])} for item in tree["annotations"]
        ]

    def texts(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "text.jsonl").read_text().splitlines()]

    def image(self, number: int) -> bytes:
        return (self.folder / "images" / f"{number:012d}.jpg").read_bytes()


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
        for name, work in _chain(builder, bench, Path(folder), hostile):
            if name == fail_at:
                message = f"optim.lr: loss is not finite at step 212 {hostile}".strip()
                builder.record(name, name, {}, seconds=31.2, state="failed", outcome=82, message=message, attempts=2)
                break
            uri = work()
            if name in cached:
                record = store.read_json(f"runs/{run}/{name}.json")
                store.write_json(f"runs/{run}/{name}.json", record | {"cache_hit": True, "seconds": 0.21, "outputs": uri})
    return run


def _chain(builder: Builder, bench: Benchmarks, folder: Path, hostile: str) -> list[tuple[str, Any]]:
    made: dict[str, Any] = {}

    def put(task: str, step: str, manifest: Any, seconds: float, **more: Any) -> dict[str, Any]:
        uri = publish(builder.store, manifest)
        made[task] = (manifest, digest_of_manifest(manifest), uri)
        extra = {"decision": manifest.decision} if isinstance(manifest, GateDecision) else {}
        builder.record(task, step, outputs := {"manifest": uri, **extra}, seconds=seconds, **more)
        return outputs

    def uri(task: str) -> str:
        return made[task][2]

    def mix(task: str, names: tuple[str, ...]) -> Any:
        raw, digest, _ = made["ingest"]
        inputs = {"data": uri("ingest"), "sequence_length": 128}
        return put(task, "data_mix", _mix(raw, digest, names), 3.4, inputs=inputs, after=21.0)

    def train(task: str, data: str, init: str, stage: str, recipe: str, steps: int, seconds: float) -> Any:
        parents = [made[data][1]] + ([made[init][1]] if init else [])
        checkpoint = _checkpoint(builder.store, stage, recipe, steps, tuple(parents), made[data][0])
        inputs = {"data": uri(data), "recipe": recipe, "init": uri(init) if init else "", "processes": 1, "seed": 0}
        facts = {"tokens_per_second": 9120.4, "threads": 2, "padding_share": 0.031, "torch": "2.13.0"}
        step = "sft" if stage == "sft" else "pretrain"
        return put(task, step, checkpoint, seconds, inputs=inputs, facts=facts)

    def evaluate(task: str, model: str, tuned: bool, seconds: float) -> Any:
        report = _report(builder.store, bench, made[model][1], tuned, hostile)
        inputs = {"checkpoint": uri(model), "benchmarks": "world:0", "shots": "0 4 8", "items": 256}
        return put(task, "evaluate", report, seconds, inputs=inputs, after=239.0 if not tuned else None)

    def gate() -> Any:
        tuned, digest, _ = made["evaluate-sft"]
        decision = _gate(tuned, (digest, made["evaluate-base"][1]))
        return put("gate", "gate", decision, 0.4, inputs={"reports": f"{uri('evaluate-base')} {uri('evaluate-sft')}"})

    def deploy() -> Any:
        export = ExportedModel(
            parents=(made["sft"][1],),
            checkpoint=made["sft"][1],
            files={},
            contract={"max_logit_difference": 2.4e-6, "tokens_compared": 24.0},
        )
        publish(builder.store, export)
        item = bench.items("instruct")[6]
        ref = builder.store.put_bytes(item["image"])
        deployment = Deployment(
            parents=(digest_of_manifest(export), made["gate"][1]),
            deployed=True,
            reason="",
            exported=digest_of_manifest(export),
            sample={"question": item["question"] + hostile, "answer": item["answer"] + hostile, "image": ref.sha256},
            images={"question.jpg": ref},
        )
        inputs = {"checkpoint": uri("sft"), "decision": "pass"}
        return put("deploy", "deploy", deployment, 11.8, inputs=inputs)

    return [
        (
            "ingest",
            lambda: put("ingest", "ingest", _raw(builder.store, bench, folder, hostile), 20.8, inputs={"preset": "toy"}),
        ),
        ("mix-text", lambda: mix("mix-text", ("text",))),
        ("mix", lambda: mix("mix", ("captions", "interleaved", "text"))),
        ("mix-instructions", lambda: mix("mix-instructions", ("instructions",))),
        ("text-base", lambda: train("text-base", "mix-text", "", "text", "mm1_tiny_lm", 600, 84.0)),
        ("pretrain", lambda: train("pretrain", "mix", "text-base", "pretrain", "mm1_tiny", 700, 130.0)),
        ("sft", lambda: train("sft", "mix-instructions", "pretrain", "sft", "mm1_tiny_sft", 150, 42.0)),
        ("evaluate-base", lambda: evaluate("evaluate-base", "pretrain", False, 55.0)),
        ("evaluate-sft", lambda: evaluate("evaluate-sft", "sft", True, 48.0)),
        ("gate", gate),
        ("deploy", deploy),
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


def _checkpoint(store: Store, stage: str, recipe: str, steps: int, parents: tuple[str, ...], mix: DataMix) -> Checkpoint:
    rng = np.random.default_rng(len(stage) + steps)
    step = np.arange(1, steps + 1)
    floors = {"captions": 0.62, "interleaved": 0.95, "text": 1.35, "instructions": 0.22}
    curves = {}
    for name in (source.name for source in mix.sources):
        clean = (
            floors[name]
            + (6.2 if stage == "text" else 2.6) * np.exp(-step / (steps * 0.09))
            + 0.4 * np.exp(-step / (steps * 0.5))
        )
        noisy = clean * np.exp(rng.normal(0, 0.06, steps))
        if len(mix.sources) > 1:
            noisy[1:][rng.random(steps - 1) < 0.15] = np.nan
        curves[f"loss/{name}"] = noisy
    rate = 5e-3 * np.minimum(step / (0.05 * steps), 0.55 + 0.45 * np.cos(np.pi * step / steps))
    mean = np.nan_to_num(np.stack(list(curves.values()))).mean(axis=0)
    table = pa.table({"step": step, "lr": rate, "loss": mean, "grad_norm": rng.random(steps)} | curves)
    with tempfile.NamedTemporaryFile(suffix=".parquet") as file:
        pq.write_table(table, file.name)
        history = store.put_file(Path(file.name))
    images = 0 if stage == "text" else steps * 16 * 8
    return Checkpoint(
        parents=parents,
        stage=stage,
        recipe=recipe,
        config={"recipe": recipe, "optim": {"lr": 5e-3, "name": "muon"}, "train": {"steps": steps, "global_batch": 16}},
        step=steps,
        total_steps=steps,
        sequences_seen=steps * 16,
        tokens_seen=steps * 16 * 124,
        images_seen=images,
        world_size=1,
        num_parameters=502_656,
        model={"config.json": store.put_bytes(b"{}")},
        history=history,
    )


SCORES: dict[str, tuple[str, dict[int, float], float | None]] = {
    "captions": ("content_f1", {0: 0.96, 4: 0.97, 8: 0.95}, None),
    "captions_heldout": ("content_f1", {0: 0.91}, None),
    "vqa": ("accuracy", {0: 0.70, 4: 0.71, 8: 0.66}, 0.29),
    "vqa_heldout": ("accuracy", {0: 0.64, 4: 0.66}, 0.29),
    "vague": ("accuracy", {0: 0.36, 4: 0.97, 8: 0.98}, 0.31),
    "novel": ("accuracy", {8: 0.93}, 0.5),
    "text": ("accuracy", {0: 0.89}, None),
    "instruct": ("accuracy", {0: 0.08}, 0.06),
}
SHUFFLED = {("captions", 0): 0.34, ("vqa", 0): 0.28, ("vqa", 4): 0.27, ("vague", 4): 0.30, ("novel", 8): 0.49}


def _report(store: Store, bench: Benchmarks, checkpoint: str, tuned: bool, hostile: str) -> EvalReport:
    scores: list[Score] = []
    for task, (metric, by_shots, chance) in SCORES.items():
        if tuned and task not in ("captions", "vqa", "vague", "instruct"):
            continue
        for shots, value in by_shots.items():
            value = 0.83 if tuned and task == "instruct" else value - (0.03 if tuned else 0.0)
            scores.append(_score(task, metric, shots, value, chance, "none"))
            if (task, shots) in SHUFFLED and not tuned:
                scores.append(_score(task, metric, shots, SHUFFLED[task, shots], chance, "shuffled"))
    if not tuned:
        scores.append(_score("captions", "cider", 0, 3.21, None, "none"))
    examples, images = [], {}
    for task in ("captions", "vqa", "vague", "novel", "instruct"):
        items = bench.captions(task) if task == "captions" else bench.items(task)
        for number, item in enumerate(items[:8]):
            right = number % 4 != 3 if task != "instruct" or tuned else number == 0
            ref = store.put_bytes(item["image"])
            images[f"{ref.sha256[:16]}.jpg"] = ref
            answer = item["answer"] + hostile
            prediction = answer if right else "a small green ring" + hostile
            examples.append(
                {
                    "task": task,
                    "shots": {"vague": 4, "novel": 8}.get(task, 0),
                    "question": item["question"] + hostile if item["question"] else "",
                    "answer": answer,
                    "prediction": prediction,
                    "correct": right,
                    "value": float(right) if task != "captions" else 0.93 if right else 0.25,
                    "metric": "content_f1" if task == "captions" else "accuracy",
                    "demonstrations": [{"question": "", "answer": other["answer"] + hostile} for other in items[9:12]],
                    "image": ref.sha256,
                }
            )
    for number, text in enumerate(bench.texts()[:5]):
        answer = text["answer"] + hostile
        line = {"task": "text", "shots": 0, "question": text["prompt"], "answer": answer, "image": None}
        examples.append(line | {"prediction": answer if number else "cow", "correct": bool(number)})
    return EvalReport(
        parents=(checkpoint,),
        checkpoint=checkpoint,
        benchmarks=digest_of(b"benchmarks"),
        config={"items": 256, "shots": [0, 4, 8], "style": "chat" if tuned else "plain"},
        scores=tuple(scores),
        examples=store.put_bytes("".join(json.dumps(line) + "\n" for line in examples).encode()),
        images=images,
    )


def _score(task: str, metric: str, shots: int, value: float, chance: float | None, control: Any) -> Score:
    stderr = 0.11 if metric == "cider" else float(np.sqrt(max(value * (1 - value), 1e-4) / 256))
    return Score(
        task=task,
        split="test",
        metric=metric,
        shots=shots,
        control=control,
        value=round(value, 4),
        stderr=round(stderr, 4),
        num_items=256,
        chance=chance,
    )


def _gate(report: EvalReport, parents: tuple[str, ...]) -> GateDecision:
    rules = (
        GateRule(rule="captions/0/content_f1 >= 0.5", value=0.93, threshold=0.5, passed=True),
        GateRule(rule="vague/4/accuracy >= 0.5", value=0.94, threshold=0.5, passed=True),
    )
    return GateDecision(parents=parents, checkpoint=report.checkpoint, decision="pass", rules=rules)
