"""Step ingest: raw files in real formats -> filtered, sharded, counted data (RawData), on one machine.

    plan -> filter (a process per core) -> merge -> shard (a process per core) -> collect

It calls the same functions as the steps ``ingest_plan`` to ``ingest_collect``, which run on many machines
(``workflows/ingest.py``), and its output is the same, byte for byte. Finished parts are recorded in the store, so an
interrupted run resumes where it stopped.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from pydantic import BaseModel, Field

from mm1 import machine
from mm1.errors import OutOfMemory
from mm1.store.base import digest_of
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import (
    AUTO,
    TRAIN,
    PartBytesField,
    PresetField,
    Remote,
    RemoteField,
    Sources,
    TokenizerField,
    VocabularyField,
    addresses_of,
    check_given,
    check_preset,
    check_tokenizer,
    filtering,
    given_tokenizer,
    preset_of,
    publish_data,
    root_of,
)

if TYPE_CHECKING:
    from mm1.data.prepare.sources.roots import RawRoot
    from mm1.manifests import FilteredPart, ManifestT, MergedParts, RawPart, ShardedPart

log = logging.getLogger(__name__)

ResultT = TypeVar("ResultT")


class Inputs(Sources):
    """Inputs of ingest."""

    data: ManifestUri = Field("", description="existing RawData (for example made on many machines); nothing is ingested")
    tokenizer: TokenizerField = TRAIN
    preset: PresetField = AUTO
    vocabulary: VocabularyField = 1024
    remote: RemoteField = "refuse"
    part_bytes: PartBytesField = 512_000_000


class Outputs(BaseModel):
    """Outputs of ingest."""

    manifest: ManifestUri = Field(description="RawData")


def check_sources(data: str, captions: str, synthetic: str, interleaved: str, text: str, instructions: str) -> None:
    """Check that at least one source or existing data is given."""
    if not data:
        check_given(captions, synthetic, interleaved, text, instructions)


class _Work(NamedTuple):
    """Settings of one run, for the worker processes."""

    inputs: Inputs
    store: str
    code: str
    folder: Path
    tokenizer: Path | None
    remote: Remote

    def root(self, source: str) -> Path:
        """Return the folder in which the files of a source are generated or downloaded."""
        return self.folder / source


def run(inputs: Inputs, context: Context) -> Outputs:
    """Filter and shard the given sources, choose the tokenizer, count tokens and publish the data."""
    from mm1.data.prepare.pipeline import check_sources, collect, merge_parts, training_texts
    from mm1.data.tokenizer import train_bpe
    from mm1.manifests import RawData

    if inputs.data:
        return Outputs(manifest=publish_data(context.load(inputs.data, RawData), context))
    sources = list(addresses_of(inputs))
    for source, address in addresses_of(inputs).items():
        log.info("%s: filter preset %s", source, preset_of(inputs.preset, address))
    folder, origin = given_tokenizer(inputs.tokenizer, context)
    work = _Work(inputs, context.store.uri, context.code, context.work, folder, inputs.remote)
    started = time.monotonic()
    with _Pool() as pool:
        parts = [part for planned in pool.map(_plan, [(work, source) for source in sources]) for part in planned]
        done = _progress(context, 2 * len(parts))
        filtered = pool.map(_filter, [(work, part) for part in parts], done)
        check_sources(filtered)
        if folder is None:
            log.info("training a tokenizer of %d tokens", inputs.vocabulary)
            folder = train_bpe(training_texts(context.store, filtered), context.work / "tokenizer", inputs.vocabulary)
        merged = merge_parts(context.store, filtered, folder, origin, context.work)
        sharded = pool.map(_shard, [(work, merged, part) for part in filtered], done)
    context.note(ingest_seconds=round(time.monotonic() - started, 3), parts=len(parts))
    return Outputs(manifest=publish_data(collect(merged, filtered, sharded), context))


def _progress(context: Context, total: int) -> Callable[[], None]:
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        context.progress(done, total)

    return advance


# -- in the worker processes --------------------------------------------------------------------------------------------


def _plan(task: tuple[_Work, str]) -> list[RawPart]:
    from mm1.data.prepare.pipeline import plan_parts
    from mm1.data.prepare.sources.formats import discover

    work, source = task
    form, files = discover(source, root_of(work.inputs, source, work.root(source)))
    return plan_parts(source, form, files, work.inputs.part_bytes)


def _filter(task: tuple[_Work, RawPart]) -> FilteredPart:
    from mm1.data.prepare.pipeline import filter_part
    from mm1.manifests import FilteredPart, digest_of_manifest
    from mm1.store.open import open_store

    work, part = task
    preset = preset_of(work.inputs.preset, addresses_of(work.inputs)[part.source])
    how = filtering(preset, work.tokenizer, work.remote)

    def make() -> FilteredPart:
        root = _root_again(work, part.source)
        return filter_part(open_store(work.store), part, root, how, work.folder / "filtered")

    decisive = [digest_of_manifest(part), how.preset, *how.reserved, work.remote]
    return _remembered(work, "filter", decisive, FilteredPart, make)


def _root_again(work: _Work, source: str) -> RawRoot:
    """Return the root of a source, as the plan left it: the toy world is not written twice."""
    from mm1.data.prepare.sources.roots import LocalRoot

    written = work.root(source) / f"world-{source}"
    return LocalRoot(written) if written.exists() else root_of(work.inputs, source, work.root(source))


def _shard(task: tuple[_Work, MergedParts, FilteredPart]) -> ShardedPart:
    from mm1.data.prepare.pipeline import shard_part
    from mm1.manifests import ShardedPart, digest_of_manifest
    from mm1.store.open import open_store

    work, merged, part = task
    decisive = [digest_of_manifest(merged), digest_of_manifest(part)]

    def make() -> ShardedPart:
        return shard_part(open_store(work.store), merged, part, work.folder / "sharded")

    return _remembered(work, "shard", decisive, ShardedPart, make)


def _remembered(work: _Work, name: str, decisive: list[str], kind: type[ManifestT], make: Callable[[], ManifestT]) -> ManifestT:
    """Return the result for a part, computed once per store; its entry is next to those of the step cache."""
    from mm1.manifests import load, manifest_key, publish, split_uri
    from mm1.store.open import open_store

    store = open_store(work.store)
    key = f"cache/ingest_parts/{digest_of(repr((name, work.code, decisive)).encode())}.json"
    entry = store.read_json(key)
    if entry is not None and store.exists(manifest_key(digest := entry["outputs"]["manifest"].removeprefix("@"))):
        return load(f"{store.uri}/{manifest_key(digest)}", kind, store)
    made = make()
    digest = split_uri(publish(store, made))[1]
    store.write_json(key, {"outputs": {"manifest": f"@{digest}"}, "artifacts": {}, "code": work.code})
    return made


class _Pool:
    """A process pool, one process per core; results do not depend on the number of processes."""

    def __init__(self) -> None:
        self.processes = machine.cores()
        context = multiprocessing.get_context("fork")
        self._executor = (
            ProcessPoolExecutor(self.processes, mp_context=context, initializer=_start_process, initargs=(os.getpid(),))
            if self.processes > 1
            else None
        )

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._executor is None:
            return
        if kind is not None:  # a signal or a failed part: the other results are no longer needed
            # SIGKILL, not SIGTERM: a process that exits while holding the queue's lock would block the others
            for process in multiprocessing.active_children():
                process.kill()
        self._executor.shutdown(cancel_futures=True)

    def map(
        self, work: Callable[..., ResultT], tasks: Sequence[object], done: Callable[[], None] = lambda: None
    ) -> list[ResultT]:
        """Return the results in the order of the tasks.

        Raises:
            OutOfMemory: a process was killed.
            Mm1Error: the error of a task.
        """
        if self._executor is None:
            results = []
            for task in tasks:
                results.append(work(task))
                done()
            return results
        futures = [self._executor.submit(work, task) for task in tasks]
        try:
            for future in as_completed(futures):
                future.result()
                done()
        except BrokenProcessPool:
            raise OutOfMemory(
                "a worker process of ingest was killed, probably out of memory; run the same command again: finished parts are "
                "not repeated"
            ) from None
        return [future.result() for future in futures]


def _start_process(parent: int) -> None:
    """Make a worker exit on SIGTERM and with its parent; otherwise it would wait for work forever."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # handled by the parent
    machine.exit_with_parent(parent)


STEP = Step(
    name="ingest",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Filter raw data, write shards with an index and count tokens; train a tokenizer if none is given.",
    artifacts=("summary.md",),
    checks=(check_sources, check_preset, check_tokenizer),
)

if __name__ == "__main__":
    main(STEP)
