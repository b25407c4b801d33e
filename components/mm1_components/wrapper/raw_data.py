"""Shared inputs of the ingest steps: addresses of raw files, how they are read, the filter preset, the tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from mm1.config.resolve import suggest
from mm1.config.values import quoted
from mm1.data.config import MAX_ROW_BYTES
from mm1.errors import ConfigurationError
from mm1_components.wrapper.declaration import Context
from mm1_components.wrapper.sources import (
    SERVED_SCHEME,
    Kind,
    Source,
    SourceLocation,
    TokenizerAddress,
    existing,
    kind_of,
    raw_root,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm1.data.prepare.files.raw import Fetch
    from mm1.data.prepare.locations.roots import RawRoot
    from mm1.data.prepare.pipeline import FilterSettings
    from mm1.data.prepare.sources.formats import Options
    from mm1.manifests import Files, ManifestT
    from mm1.store.base import Store

TRAIN = "train"
_ADDRESSES = TypeAdapter(list[str])
SOURCES = ("captions", "synthetic", "interleaved", "text", "instructions")
Remote = Literal["refuse", "fetch", "fetch-private"]
AUTO = "auto"
PresetField = Annotated[
    str, Field(description="filter preset: paper, obelics, toy, or auto (toy for the toy world, paper for all other data)")
]
TokenizerField = Annotated[
    TokenizerAddress,
    Field(
        description="train (a byte-level BPE on this data), a Hugging Face folder, a RawData, DataMix or Checkpoint manifest, "
        "or serving:<target> (of the served model; train if nothing is served)"
    ),
]
PartBytesField = Annotated[int, Field(description="approximate raw bytes per part", ge=1)]
DamagedShareField = Annotated[
    float, Field(description="maximum share of rows of a source that cannot be read; more end the step", ge=0, le=1)
]
BatchField = Annotated[int, Field(description="number of the batch", ge=0)]
VocabularyField = Annotated[int, Field(description="vocabulary size of a trained tokenizer", ge=260, le=2**24)]
DESCRIPTIONS = {
    "captions": "image-caption pairs: img2dataset, webdataset, Hugging Face tables, CSV, JSON or files",
    "synthetic": "pairs with rewritten captions, in the same formats",
    "interleaved": "documents of images and text: OBELICS or MMC4",
    "text": "text documents: JSON lines, parquet or Arrow, compressed or not",
    "instructions": "conversations: LLaVA, ShareGPT, OpenAI messages or the_cauldron; JSON or parquet",
}


class SourceOptions(BaseModel):
    """How raw files are read."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    remote: Remote = Field(
        "refuse",
        description="images with http(s) addresses: refuse, fetch, or fetch-private (also from private networks)",
    )
    columns: str = Field(
        "", description="names of columns or fields, for example captions.caption=TEXT captions.image=jpg; empty = usual names"
    )
    max_row_bytes: int = Field(MAX_ROW_BYTES, description="maximum size of a row, uncompressed; larger ones are dropped", ge=1)


class Sources(SourceOptions):
    """Addresses of the raw files of each source, which affect the result, and how they are read."""

    captions: Source = Field("", description=DESCRIPTIONS["captions"])
    synthetic: Source = Field("", description=DESCRIPTIONS["synthetic"])
    interleaved: Source = Field("", description=DESCRIPTIONS["interleaved"])
    text: Source = Field("", description=DESCRIPTIONS["text"])
    instructions: Source = Field("", description=DESCRIPTIONS["instructions"])


class SourceLocations(SourceOptions):
    """Addresses of the raw files for a mapper; its part defines the content, so they do not affect the result."""

    captions: SourceLocation = Field("", description=DESCRIPTIONS["captions"])
    synthetic: SourceLocation = Field("", description=DESCRIPTIONS["synthetic"])
    interleaved: SourceLocation = Field("", description=DESCRIPTIONS["interleaved"])
    text: SourceLocation = Field("", description=DESCRIPTIONS["text"])
    instructions: SourceLocation = Field("", description=DESCRIPTIONS["instructions"])


def check_preset(preset: str) -> None:
    """Check that the filter preset exists."""
    from mm1.data.config import preset_named

    if preset != AUTO:
        preset_named(preset)


def preset_of(preset: str, address: str) -> str:
    """Return the filter preset of a source: the given one; for ``auto``, toy for the toy world and paper for other data."""
    if preset != AUTO:
        return preset
    return "toy" if kind_of(address) is Kind.WORLD else "paper"


def check_tokenizer(tokenizer: Path) -> None:
    """Check that the folder contains a tokenizer."""
    from mm1.data.tokenizer import TOKENIZER_FILE

    if not (tokenizer / TOKENIZER_FILE).is_file():
        raise ConfigurationError(f"tokenizer: {tokenizer} has no {TOKENIZER_FILE}: expected a fast Hugging Face tokenizer")


def check_columns(columns: str) -> None:
    """Check that the names of columns can be parsed."""
    from mm1.data.prepare.files.roles import parse_columns

    parse_columns(columns)


def check_names(field: str, names: Iterable[str]) -> None:
    """Check that all names are sources of ingest (without sub-sources).

    Args:
        field: name of the input, for the message.
        names: the names.

    Raises:
        ConfigurationError: an unknown name.
    """
    if unknown := [name for name in names if name not in SOURCES]:
        raise ConfigurationError(f"{field}: unknown source {quoted(unknown[0])}; {suggest(unknown[0], SOURCES)}")


def check_given(captions: str, synthetic: str, interleaved: str, text: str, instructions: str) -> None:
    """Check that at least one source is given."""
    if not any((captions, synthetic, interleaved, text, instructions)):
        raise ConfigurationError(f"nothing to ingest: give at least one of {', '.join(SOURCES)}")


def addresses_of(inputs: Sources | SourceLocations) -> dict[str, str]:
    """Return the given sources: name -> address."""
    return {name: address for name in SOURCES if (address := getattr(inputs, name))}


def root_of(inputs: Sources | SourceLocations, source: str, work: Path) -> RawRoot:
    """Return the raw files of a source.

    Raises:
        ConfigurationError: its address is missing or does not exist.
    """
    address = getattr(inputs, source)
    if not address:
        raise ConfigurationError(f"{source}: required, because the part belongs to this source")
    return raw_root(address, source, work)


def filtering(preset: str, tokenizer: Path | None, given: SourceOptions, source: str) -> FilterSettings:
    """Return the filter settings of a mapper for a source."""
    from mm1.data.prepare.pipeline import FilterSettings
    from mm1.data.tokenizer import SPECIAL_TOKENS, TextTokenizer, family_template

    reserved = TextTokenizer.from_folder(tokenizer).reserved_texts() if tokenizer else SPECIAL_TOKENS
    template = family_template(tokenizer) if tokenizer else None
    return FilterSettings(preset, tuple(reserved), options_of(given, source)._replace(template=template))


def options_of(given: SourceOptions, source: str) -> Options:
    """Return how the files of a source are read."""
    from mm1.data.prepare.files.roles import parse_columns
    from mm1.data.prepare.sources.formats import Options

    return Options(_fetch(given.remote), parse_columns(given.columns).get(source, {}), given.max_row_bytes)


def _fetch(remote: Remote) -> Fetch | None:
    if remote == "refuse":
        return None
    from mm1.data.prepare.locations.fetch import Fetcher

    return Fetcher(private=remote == "fetch-private")


def manifests_of(context: Context, text: str, kind: type[ManifestT], name: str) -> list[ManifestT]:
    """Load the manifests of a list of addresses: JSON, as engines collect the outputs of a loop, or separated by spaces.

    Raises:
        ConfigurationError: the list is invalid or empty.
    """
    try:
        addresses = _ADDRESSES.validate_json(text) if text.lstrip().startswith("[") else text.split()
    except ValidationError:
        raise ConfigurationError(f"{name}: expected a JSON list of addresses, got {quoted(text)}") from None
    if not addresses:
        raise ConfigurationError(f"{name}: expected at least one {kind.__name__}")
    return [context.load(uri, kind) for uri in addresses]


def given_tokenizer(address: str, context: Context) -> tuple[Path | None, str | None]:
    """Return the folder of an existing tokenizer (None = train one) and the digest of the manifest that it comes from."""
    from mm1.data.tokenizer import adopt_folder
    from mm1.manifests import MANIFEST_NAME, Manifest, split_uri
    from mm1.store.open import open_store

    address = _address_of_tokenizer(address, context.store)
    if address == TRAIN:
        return None, None
    folder = context.work / "tokenizer"
    if not MANIFEST_NAME.match(address):
        return adopt_folder(existing("tokenizer", address), folder), None
    store_uri, digest = split_uri(address)
    files = _tokenizer_files(context.load(address, Manifest), address)
    open_store(store_uri).get_folder(dict(files), context.work / "tokenizer-of-manifest")
    return adopt_folder(context.work / "tokenizer-of-manifest", folder), digest


def tokenizer_state(inputs: BaseModel, store: Store) -> str:
    """Return the tokenizer of the served model, if that is the one to use; part of the cache key."""
    address = str(getattr(inputs, "tokenizer", ""))
    address = _address_of_tokenizer(address, store) if kind_of(address) is Kind.SERVED else ""
    return address.rpartition("/")[2].removesuffix(".json")


def _address_of_tokenizer(address: str, store: Store) -> str:
    """Replace `serving:<target>` by the address of the manifest that the served model's tokenizer comes from, or by `train`."""
    if kind_of(address) is not Kind.SERVED:
        return address
    from mm1.lineage.retraining import pretrained, tokenizer_origin
    from mm1.lineage.serving import current
    from mm1.manifests import manifest_key

    served = current(store, address.removeprefix(SERVED_SCHEME))
    checkpoint = pretrained(store, served.deployment) if served else None
    return f"{store.uri}/{manifest_key(tokenizer_origin(store, checkpoint))}" if checkpoint else TRAIN


def _tokenizer_files(manifest: object, address: str) -> Files:
    from mm1.data.tokenizer import TOKENIZER_FILES
    from mm1.manifests import Checkpoint, DataMix, RawData

    if isinstance(manifest, RawData | DataMix):
        return manifest.tokenizer
    if isinstance(manifest, Checkpoint):
        return {name: ref for name, ref in manifest.model.items() if name in TOKENIZER_FILES}
    raise ConfigurationError(f"tokenizer: expected RawData, DataMix or Checkpoint, got {address} ({type(manifest).__name__})")
