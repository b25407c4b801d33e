"""Step ingest: raw files in real formats -> filtered, sharded, counted data (RawData), on one machine.

    plan -> filter (a process per core) -> merge -> shard (a process per core) -> collect

It calls the same functions as the steps ``ingest_plan`` to ``ingest_collect``, which run on many machines
(``workflows/ingest.py``), and its output is the same, byte for byte. Finished parts are recorded in the store, so an
interrupted run resumes where it stopped.
"""

from __future__ import annotations

import logging
import time

from pydantic import BaseModel, Field

from mm1.data.config import MAX_DAMAGED_SHARE, PART_BYTES
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import (
    AUTO,
    TRAIN,
    DamagedShareField,
    PartBytesField,
    PresetField,
    Sources,
    TokenizerField,
    VocabularyField,
    check_columns,
    check_given,
    check_preset,
    check_tokenizer,
    given_tokenizer,
    tokenizer_state,
)

log = logging.getLogger(__name__)


class Inputs(Sources):
    """Inputs of ingest."""

    data: ManifestUri = Field("", description="existing RawData (for example made on many machines); nothing is ingested")
    tokenizer: TokenizerField = TRAIN
    preset: PresetField = AUTO
    vocabulary: VocabularyField = 1024
    part_bytes: PartBytesField = PART_BYTES
    max_damaged_share: DamagedShareField = MAX_DAMAGED_SHARE


class Outputs(BaseModel):
    """Outputs of ingest."""

    manifest: ManifestUri = Field(description="RawData")


def check_sources(data: str, captions: str, synthetic: str, interleaved: str, text: str, instructions: str) -> None:
    """Check that at least one source or existing data is given."""
    if not data:
        check_given(captions, synthetic, interleaved, text, instructions)


def run(inputs: Inputs, context: Context) -> Outputs:
    """Filter and shard the given sources, choose the tokenizer, count tokens and publish the data."""
    from mm1.data.prepare.merge import check_sources, collect, merge_parts, training_texts
    from mm1.data.tokenizer import train_bpe
    from mm1.manifests import RawData
    from mm1_components.parts.plan import log_presets, plan_sources
    from mm1_components.parts.pool import Pool
    from mm1_components.parts.progress import Progress
    from mm1_components.parts.summary import publish_data
    from mm1_components.parts.work import Work, filter_one, shard_one

    if inputs.data:
        return Outputs(manifest=publish_data(context.load(inputs.data, RawData), context))
    started = time.monotonic()
    folder, origin = given_tokenizer(inputs.tokenizer, context)
    plan = plan_sources(inputs, inputs.part_bytes, context.work)
    log_presets(inputs.preset, inputs)
    work = Work(inputs, inputs.preset, context.store.uri, context.code, context.work, folder, context.use_cache)
    num_bytes = sum(source.num_bytes for source in plan.sources.values())
    with Pool() as pool, Progress(context, num_bytes, len(plan.parts), rounds=2) as progress:
        filtered = pool.map(filter_one, [(work, part) for part in plan.parts], progress.advance)
        check_sources(filtered, inputs.max_damaged_share)
        if folder is None:
            log.info("training a tokenizer of %d tokens", inputs.vocabulary)
            folder = train_bpe(training_texts(context.store, filtered), context.work / "tokenizer", inputs.vocabulary)
        merged = merge_parts(context.store, filtered, folder, origin, context.work)
        sharded = pool.map(shard_one, [(work, merged, part) for part in filtered], progress.advance)
    context.note(ingest_seconds=round(time.monotonic() - started, 3), parts=len(plan.parts))
    return Outputs(manifest=publish_data(collect(plan.sources, merged, filtered, sharded), context))


STEP = Step(
    name="ingest",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    kind="RawData",
    summary="Filter raw data, write shards with an index and count tokens; train a tokenizer if none is given.",
    artifacts=("summary.md",),
    state=tokenizer_state,
    checks=(check_sources, check_preset, check_tokenizer, check_columns),
)

if __name__ == "__main__":
    main(STEP)
