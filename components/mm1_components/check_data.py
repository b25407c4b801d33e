"""Step check_data: decide, from the feature store, whether there is enough new data since the last mixture to train again.

RawData + the pointer to the last mixture of these sources -> new shards and samples -> retrain or wait
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from mm1.errors import ConfigurationError
from mm1_components.wrapper.arguments import ManifestUri
from mm1_components.wrapper.checks import Producer
from mm1_components.wrapper.declaration import Context, Step
from mm1_components.wrapper.execute import main
from mm1_components.wrapper.raw_data import SOURCES, check_names


class Inputs(BaseModel):
    """Inputs of check_data."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: ManifestUri = Field(description="current RawData")
    sources: str = Field("captions interleaved text", description="sources and sub-sources of the mixture, separated by spaces")
    min_samples: int = Field(1, description="new samples required to train again", ge=1)


def check_source_names(sources: str) -> None:
    """Check that the sources exist."""
    from mm1.data.source_names import parent_of

    check_names("sources", map(parent_of, sources.split()))


def check_sources(sources: str, data: Producer) -> None:
    """Check that the sources are among those that are ingested."""
    if data.step != "ingest" or not data.known("data", *SOURCES) or data.inputs["data"]:
        return
    from mm1.data.source_names import parent_of

    given = [name for name in SOURCES if data.inputs[name]]
    if missing := [name for name in map(parent_of, sources.split()) if name not in given]:
        raise ConfigurationError(f"sources: {missing[0]!r} is not ingested; ingested sources: {', '.join(given) or 'none'}")


class Outputs(BaseModel):
    """Outputs of check_data."""

    decision: Literal["retrain", "wait"] = Field(description="retrain or wait")
    new_shards: int = Field(description="shards added since the last mixture")
    new_samples: int = Field(description="samples in them")


def run(inputs: Inputs, context: Context) -> Outputs:
    """Compare the current data with the data of the last mixture.

    Raises:
        ConfigurationError: the data has no such source.
    """
    from mm1.data.features.new_data import last_mix, new_data_since
    from mm1.data.source_names import check_names_in
    from mm1.manifests import RawData

    raw = context.load(inputs.data, RawData)
    sources = inputs.sources.split()
    check_names_in(raw, "sources", sources)
    last = last_mix(context.store, sources)
    news = new_data_since(context.store, raw, sources, last.as_of if last else None)
    decision: Literal["retrain", "wait"] = "retrain" if news.samples >= inputs.min_samples else "wait"
    since = (
        f"the mixture {last.digest[:12]} as of {last.as_of.isoformat(timespec='seconds')}"
        if last
        else "the beginning (no mixture yet)"
    )
    context.artifact("summary.md").write_text(
        f"# New data: {decision}\n\n{news.samples:,} samples in {news.shards:,} shards of {', '.join(sources)} since {since}; "
        f"required: {inputs.min_samples:,}.\n"
    )
    return Outputs(decision=decision, new_shards=news.shards, new_samples=news.samples)


STEP = Step(
    name="check_data",
    inputs=Inputs,
    outputs=Outputs,
    run=run,
    summary="Decide whether enough data has arrived since the last mixture to train again.",
    artifacts=("summary.md",),
    cached=False,
    checks=(check_source_names, check_sources),
)

if __name__ == "__main__":
    main(STEP)
