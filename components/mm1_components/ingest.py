"""Step ingest: raw files in real formats -> filtered, sharded, counted data (RawData).

captions, interleaved, text, instructions -> filter (a process per source) -> tokenizer -> index -> store -> manifest
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from mm1.errors import ConfigurationError
from mm1_components.arguments import ManifestUri, Source
from mm1_components.step import Context, Step, main

if TYPE_CHECKING:
    from mm1.data.ingest import FilteredSource
    from mm1.manifests import Files, RawData

log = logging.getLogger(__name__)

TRAIN = "train"
SOURCES = ("captions", "interleaved", "text", "instructions")


class Inputs(BaseModel):
    """Inputs of ingest."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    captions: Source = Field("", description="image-caption pairs: img2dataset tars")
    interleaved: Source = Field("", description="documents of images and text: OBELICS parquet")
    text: Source = Field("", description="text documents: jsonl (plain, .gz, .zst) or parquet with a field text")
    instructions: Source = Field("", description="conversations: LLaVA json with its images beside")
    tokenizer: Source = Field(
        TRAIN,
        description="train (a byte-level BPE on these data), a Hugging Face folder, or a RawData, DataMix, Checkpoint manifest",
    )
    preset: str = Field("paper", description="filter preset: paper, obelics or toy")
    vocabulary: int = Field(1024, description="tokens of a trained tokenizer", ge=260)


class Outputs(BaseModel):
    """Outputs of ingest."""

    manifest: ManifestUri = Field(description="RawData")


class _Task(NamedTuple):
    name: str
    address: str
    preset: str
    reserved: tuple[str, ...]
    work: Path


def run(inputs: Inputs, context: Context) -> Outputs:
    """Filter and shard the sources that are given, choose the tokenizer, count tokens, publish."""
    from mm1.data.config import preset_named
    from mm1.data.ingest import store_source
    from mm1.data.tokenizer import SPECIAL_TOKENS, TextTokenizer
    from mm1.manifests import RawData

    preset_named(inputs.preset)
    addresses = {name: address for name in SOURCES if (address := getattr(inputs, name))}
    if not addresses:
        raise ConfigurationError(f"nothing to ingest: give at least one of {', '.join(SOURCES)}")
    folder, parents = _given_tokenizer(inputs.tokenizer, context)
    reserved = TextTokenizer.from_folder(folder).reserved_texts() if folder else SPECIAL_TOKENS
    started = time.monotonic()
    filtered = _filter_all([_Task(name, address, inputs.preset, reserved, context.work) for name, address in addresses.items()])
    filtering = time.monotonic() - started
    folder = folder or _train(filtered, context.work / "tokenizer", inputs.vocabulary)
    tokenizer = TextTokenizer.from_folder(folder)
    sources = {}
    for number, source in enumerate(filtered):
        sources[source.name] = store_source(context.store, source, inputs.preset, tokenizer)
        context.progress(number + 1, len(filtered))
    raw = RawData(parents=parents, sources=sources, tokenizer=context.store.put_folder(folder))
    context.artifact("summary.md").write_text(_summary(raw, filtered, inputs.preset, tokenizer.vocabulary_size))
    context.note(
        filter_seconds=round(filtering, 3),
        samples={name: source.num_samples for name, source in sources.items()},
        images={name: source.num_images for name, source in sources.items()},
        bytes=sum(shard.tar.num_bytes for source in sources.values() for shard in source.shards),
    )
    return Outputs(manifest=context.publish(raw))


def _filter_all(tasks: list[_Task]) -> list[FilteredSource]:
    """All sources, side by side within the machine's cores; the outcome does not depend on how many there are."""
    processes = min(len(tasks), len(os.sched_getaffinity(0)))
    if processes == 1:
        return [_filter(task) for task in tasks]
    executor = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("fork"))
    try:
        return list(executor.map(_filter, tasks))
    except BaseException:  # a signal or a failed source: the others' work is of no use any more
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    finally:
        executor.shutdown(cancel_futures=True)


def _filter(task: _Task) -> FilteredSource:
    from mm1.data.config import preset_named
    from mm1.data.ingest import filter_source
    from mm1_components.sources import raw_files

    path = raw_files(task.address, task.name, task.work)
    source = filter_source(task.name, path, preset_named(task.preset), task.reserved, task.work / "shards" / task.name)
    log.info("%s: %d of %d samples stay", task.name, source.num_samples, source.num_read)
    return source


def _train(filtered: list[FilteredSource], folder: Path, vocabulary: int) -> Path:
    from mm1.data.ingest import training_texts
    from mm1.data.tokenizer import train_bpe

    log.info("training a tokenizer of %d tokens", vocabulary)
    return train_bpe(training_texts(filtered), folder, vocabulary)


def _given_tokenizer(address: str, context: Context) -> tuple[Path | None, tuple[str, ...]]:
    """The folder of a tokenizer that exists already (None = train one), and the digest of the manifest that it is from."""
    from mm1.data.tokenizer import adopt_folder
    from mm1.manifests import MANIFEST_NAME, Manifest, split_uri
    from mm1.store.open import open_store

    if address == TRAIN:
        return None, ()
    folder = context.work / "tokenizer"
    if not MANIFEST_NAME.match(address):
        return adopt_folder(Path(address).expanduser(), folder), ()
    store_uri, digest = split_uri(address)
    files = _tokenizer_files(context.load(address, Manifest), address)
    open_store(store_uri).get_folder(dict(files), context.work / "tokenizer-of-manifest")
    return adopt_folder(context.work / "tokenizer-of-manifest", folder), (digest,)


def _tokenizer_files(manifest: object, address: str) -> Files:
    from mm1.data.tokenizer import TOKENIZER_FILES
    from mm1.manifests import Checkpoint, DataMix, RawData

    if isinstance(manifest, RawData | DataMix):
        return manifest.tokenizer
    if isinstance(manifest, Checkpoint):
        return {name: ref for name, ref in manifest.model.items() if name in TOKENIZER_FILES}
    raise ConfigurationError(f"tokenizer: {address} is a {type(manifest).__name__}; RawData, DataMix or Checkpoint have one")


def _summary(raw: RawData, filtered: list[FilteredSource], preset: str, vocabulary: int) -> str:
    lines = [
        "# Ingested data",
        "",
        f"Filter preset `{preset}`, tokenizer of {vocabulary:,} tokens.",
        "",
        "| source | format | read | kept | images | text tokens | shards | MB |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, source in raw.sources.items():
        megabytes = sum(shard.tar.num_bytes for shard in source.shards) / 1e6
        lines.append(
            f"| {name} | {source.format} | {source.num_read:,} | {source.num_samples:,} | {source.num_images:,} "
            f"| {source.num_text_tokens:,} | {len(source.shards)} | {megabytes:,.1f} |"
        )
    examples: Mapping[str, Mapping[str, str]] = {source.name: source.examples for source in filtered}
    lines += ["", "## Dropped", "", "| source | filter | dropped | for example |", "|---|---|---:|---|"]
    for name, source in raw.sources.items():
        for drop, count in source.dropped.items():
            lines.append(f"| {name} | {drop} | {count:,} | {examples[name].get(drop, '').replace('|', '/')} |")
        if not source.dropped:
            lines.append(f"| {name} | none | 0 | |")
    return "\n".join(lines) + "\n"


STEP = Step(
    name="ingest",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Filter raw data, write shards with an index, count tokens; trains the tokenizer where none is given.",
    artifacts=("summary.md",),
)

if __name__ == "__main__":
    main(STEP)
