"""What the steps of ingest share: where raw files lie, the tokenizer, the summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mm1.config.resolve import suggest
from mm1.config.values import quoted
from mm1.errors import ConfigurationError
from mm1_components.wrapper.declaration import Context
from mm1_components.wrapper.sources import (
    RealSource,
    RealSourcePlace,
    Source,
    SourcePlace,
    TokenizerAddress,
    existing,
    raw_root,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mm1.data.prepare.pipeline import FilterSettings
    from mm1.data.prepare.sources.raw import Fetch
    from mm1.data.prepare.sources.roots import RawRoot
    from mm1.manifests import Files, ManifestT, RawData

TRAIN = "train"
_ADDRESSES = TypeAdapter(list[str])
SOURCES = ("captions", "synthetic", "interleaved", "text", "instructions")
Remote = Literal["refuse", "fetch", "fetch-private"]
RemoteField = Annotated[
    Remote, Field(description="images with http(s) addresses: refuse, fetch them, or fetch also from private networks")
]
PresetField = Annotated[str, Field(description="filter preset: paper, obelics or toy")]
TokenizerField = Annotated[
    TokenizerAddress,
    Field(
        description="train (a byte-level BPE on these data), a Hugging Face folder, or a RawData, DataMix, Checkpoint manifest"
    ),
]
PartBytesField = Annotated[int, Field(description="raw bytes of a part, about; a larger file is a part of its own", ge=1)]
VocabularyField = Annotated[int, Field(description="tokens of a trained tokenizer", ge=260, le=2**24)]
WHAT = {
    "captions": "image-caption pairs: img2dataset tars, parquet or files",
    "synthetic": "pairs with rewritten captions, in the same formats",
    "interleaved": "documents of images and text: OBELICS parquet or MMC4 jsonl",
    "text": "text documents: jsonl (plain, .gz, .zst) or parquet with a field text",
    "instructions": "conversations: LLaVA json or jsonl with its images beside",
}


class Sources(BaseModel):
    """Where the raw files of each source are, as inputs that decide the outcome."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    captions: Source = Field("", description=WHAT["captions"])
    synthetic: RealSource = Field("", description=WHAT["synthetic"])
    interleaved: Source = Field("", description=WHAT["interleaved"])
    text: Source = Field("", description=WHAT["text"])
    instructions: Source = Field("", description=WHAT["instructions"])


class Places(BaseModel):
    """The same for a mapper: what it reads is said by its part, and these are only the places where it finds it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    captions: SourcePlace = Field("", description=WHAT["captions"])
    synthetic: RealSourcePlace = Field("", description=WHAT["synthetic"])
    interleaved: SourcePlace = Field("", description=WHAT["interleaved"])
    text: SourcePlace = Field("", description=WHAT["text"])
    instructions: SourcePlace = Field("", description=WHAT["instructions"])


def check_preset(preset: str) -> None:
    """The filter preset exists."""
    from mm1.data.config import preset_named

    preset_named(preset)


def check_tokenizer(tokenizer: Path) -> None:
    """The folder holds a tokenizer."""
    from mm1.data.tokenizer import TOKENIZER_FILE

    if not (tokenizer / TOKENIZER_FILE).is_file():
        raise ConfigurationError(f"tokenizer: {tokenizer} holds no {TOKENIZER_FILE} (a fast tokenizer of Hugging Face)")


def check_names(field: str, names: Iterable[str]) -> None:
    """Names of sources are ones that ingest has.

    Args:
        field: input that names them, for the message.
        names: the names.

    Raises:
        ConfigurationError: an unknown name.
    """
    if unknown := [name for name in names if name not in SOURCES]:
        raise ConfigurationError(f"{field}: unknown source {quoted(unknown[0])}; {suggest(unknown[0], SOURCES)}")


def check_given(captions: str, synthetic: str, interleaved: str, text: str, instructions: str) -> None:
    """At least one source is given."""
    if not any((captions, synthetic, interleaved, text, instructions)):
        raise ConfigurationError(f"nothing to ingest: give at least one of {', '.join(SOURCES)}")


def addresses_of(inputs: Sources | Places) -> dict[str, str]:
    """The sources that are given: name -> address."""
    return {name: address for name in SOURCES if (address := getattr(inputs, name))}


def root_of(inputs: Sources | Places, source: str, work: Path) -> RawRoot:
    """The raw files of a source.

    Raises:
        ConfigurationError: its address is not given, or leads nowhere.
    """
    address = getattr(inputs, source)
    if not address:
        raise ConfigurationError(f"{source}: the part is one of this source, but its address is not given")
    return raw_root(address, source, work)


def filtering(preset: str, tokenizer: Path | None, remote: Remote) -> FilterSettings:
    """What a mapper filters by."""
    from mm1.data.prepare.pipeline import FilterSettings
    from mm1.data.tokenizer import SPECIAL_TOKENS, TextTokenizer

    reserved = TextTokenizer.from_folder(tokenizer).reserved_texts() if tokenizer else SPECIAL_TOKENS
    return FilterSettings(preset, tuple(reserved), _fetch(remote))


def _fetch(remote: Remote) -> Fetch | None:
    if remote == "refuse":
        return None
    from mm1.data.prepare.sources.fetch import Fetcher

    return Fetcher(private=remote == "fetch-private")


def manifests_of(context: Context, text: str, kind: type[ManifestT], name: str) -> list[ManifestT]:
    """The manifests of a list of addresses: JSON, as engines collect the outputs of a loop, or separated by spaces.

    Raises:
        ConfigurationError: there are none.
    """
    try:
        addresses = _ADDRESSES.validate_json(text) if text.lstrip().startswith("[") else text.split()
    except ValidationError:
        raise ConfigurationError(f"{name}: expected a JSON list of addresses, got {quoted(text)}") from None
    if not addresses:
        raise ConfigurationError(f"{name}: at least one {kind.__name__} is needed")
    return [context.load(uri, kind) for uri in addresses]


def given_tokenizer(address: str, context: Context) -> tuple[Path | None, str | None]:
    """The folder of a tokenizer that exists already (None = train one), and the digest of the manifest that it is from."""
    from mm1.data.tokenizer import adopt_folder
    from mm1.manifests import MANIFEST_NAME, Manifest, split_uri
    from mm1.store.open import open_store

    if address == TRAIN:
        return None, None
    folder = context.work / "tokenizer"
    if not MANIFEST_NAME.match(address):
        return adopt_folder(existing("tokenizer", address), folder), None
    store_uri, digest = split_uri(address)
    files = _tokenizer_files(context.load(address, Manifest), address)
    open_store(store_uri).get_folder(dict(files), context.work / "tokenizer-of-manifest")
    return adopt_folder(context.work / "tokenizer-of-manifest", folder), digest


def _tokenizer_files(manifest: object, address: str) -> Files:
    from mm1.data.tokenizer import TOKENIZER_FILES
    from mm1.manifests import Checkpoint, DataMix, RawData

    if isinstance(manifest, RawData | DataMix):
        return manifest.tokenizer
    if isinstance(manifest, Checkpoint):
        return {name: ref for name, ref in manifest.model.items() if name in TOKENIZER_FILES}
    raise ConfigurationError(f"tokenizer: {address} is a {type(manifest).__name__}; RawData, DataMix or Checkpoint have one")


def publish_data(raw: RawData, context: Context) -> str:
    """Publish the data, tell the feature store, write the summary."""
    from datetime import UTC, datetime

    from mm1.data.features.rows import push_raw

    uri = context.publish(raw)
    push_raw(context.store, raw, datetime.now(UTC))
    context.artifact("summary.md").write_text(summary(raw))
    context.note(
        samples={name: source.num_samples for name, source in raw.sources.items()},
        images={name: source.num_images for name, source in raw.sources.items()},
        bytes=sum(shard.tar.num_bytes for source in raw.sources.values() for shard in source.shards),
    )
    return uri


def summary(raw: RawData) -> str:
    """What came of each source, and what each filter dropped, with examples."""
    presets = ", ".join(f"`{preset}`" for preset in dict.fromkeys(source.preset for source in raw.sources.values()))
    lines = [
        "# Ingested data",
        "",
        f"Filter preset {presets}.",
        "",
        "| source | format | read | kept | images | text tokens | shards | MB | quality |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name, source in raw.sources.items():
        megabytes = sum(shard.tar.num_bytes for shard in source.shards) / 1e6
        scores = [shard.features.get("quality", 0.0) for shard in source.shards]
        lines.append(
            f"| {name} | {source.format} | {source.num_read:,} | {source.num_samples:,} | {source.num_images:,} "
            f"| {source.num_text_tokens:,} | {len(source.shards)} | {megabytes:,.1f} | {_mean(scores):.2f} |"
        )
    lines += ["", "## Dropped", "", "| source | filter | dropped | for example |", "|---|---|---:|---|"]
    for name, source in raw.sources.items():
        for drop, count in source.dropped.items():
            examples = "; ".join(source.examples.get(drop, ())).replace("|", "/")
            lines.append(f"| {name} | {drop} | {count:,} | {examples} |")
        if not source.dropped:
            lines.append(f"| {name} | none | 0 | |")
    return "\n".join(lines) + "\n"


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
