"""Packed sequences as the model gets them: documents side by side, with text and images in place and the loss marked.

One sequence per source is shown, the first one in the mixture's plan. It is read through the same plan and shards as in
training, so the boundaries between documents are the same. Data without a mixture are shown as individual
documents.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

from mm1.data.load.image_tiles import part_lengths
from mm1.data.load.open_mix import OpenMix, open_mix, open_shards
from mm1.data.load.sequences import SampleSpan
from mm1.data.sample import IMAGE_PLACE, ImagePart, Sample
from mm1.data.source_names import parent_of
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import DataError, Mm1Error
from mm1.manifests import DataMix, RawData
from mm1.report.album import Album, Picture
from mm1.report.collect import RunStory
from mm1.report.config import ReportConfig
from mm1.store.base import Store

log = logging.getLogger(__name__)

SEARCHED_SEQUENCES = 1_000
"""Number of the mixture's first sequences that are searched for one of each source."""


@dataclass(frozen=True, kw_only=True)
class Bit:
    """A piece of text, or an image."""

    text: str = ""
    loss: bool = True
    """Whether the model is trained on it."""
    tokens: list[str] = field(default_factory=list)
    """The text split into tokens, if token boundaries are shown."""
    picture: Picture | None = None
    more: int = 0
    """Number of omitted characters."""


@dataclass(frozen=True, kw_only=True)
class DocumentView:
    """A document, or the part of one in a sequence."""

    key: str
    bits: list[Bit]
    more_images: int = 0
    """Number of omitted images."""
    begins: bool = True
    """False if it begins in an earlier sequence."""
    ends: bool = True
    """False if it ends in a later sequence."""
    tokens: int = 0
    source: str = ""
    """Its source, in a sequence of several sources."""
    note: str = ""
    """Reason why it cannot be shown."""


@dataclass(frozen=True, kw_only=True)
class StripPart:
    """A segment of the strip that shows the fill of a sequence."""

    kind: str
    """text or pic."""
    percent: float
    """Width relative to its document."""


@dataclass(frozen=True, kw_only=True)
class SequenceView:
    """The samples shown for one source."""

    name: str
    documents: list[DocumentView] = field(default_factory=list)
    strip: list[tuple[float, list[StripPart], str]] = field(default_factory=list)
    """Documents of the sequence: percent of the sequence's length, their segments, and their source."""
    tokens: int = 0
    length: int = 0
    """Capacity of the sequence in tokens; 0 if no sequence is shown."""
    num_images: int = 0
    num_documents: int = 0
    mixture: str = ""
    note: str = ""


def source_samples(story: RunStory, album: Album, config: ReportConfig) -> list[SequenceView]:
    """Show one sequence, or a few documents, of each source of the run."""
    views: dict[str, SequenceView] = {}
    for stored, mix in sorted(story.of(DataMix), key=lambda pair: -len(pair[1].sources)):
        raw = story.get(mix.raw, RawData)
        for number, source in enumerate(mix.sources):
            if raw and source.weight and source.name not in views:
                store = story.manifests[mix.raw].store
                make = partial(_sequence, store, mix, raw, number, album, config, stored.producer or "a mixture")
                views[source.name] = _guarded(source.name, make)
    for stored, raw in story.of(RawData):
        for name in raw.sources:
            if name not in map(parent_of, views):
                views[name] = _guarded(name, partial(single_documents, stored.store, raw, name, album, config))
    return list(views.values())


def _guarded(name: str, make: Callable[[], SequenceView]) -> SequenceView:
    try:
        return make()
    except (Mm1Error, OSError) as error:
        log.warning("samples of %s omitted from the report: %s", name, error)
        return SequenceView(name=name, note=f"The samples cannot be read: {error}")


def _sequence(
    store: Store, mix: DataMix, raw: RawData, number: int, album: Album, config: ReportConfig, mixture: str
) -> SequenceView:
    """Show the first sequence of a source in a mixture."""
    opened = open_mix(store, mix, raw)
    planned = (opened.plan[index] for index in range(SEARCHED_SEQUENCES))
    spans = next((sequence.spans for sequence in planned if sequence.source == number), [])
    return sequence_of(opened, spans, mix.sources[number].name, album, config, mixture)


def sequence_of(
    opened: OpenMix, spans: Sequence[SampleSpan], name: str, album: Album, config: ReportConfig, mixture: str
) -> SequenceView:
    """Show a packed sequence as the model gets it; damaged documents are marked."""
    mix = opened.mix
    indexes = [opened.readers[span.source][span.shard].index for span in spans]
    lengths = [
        _token_parts(index.parts(span.row), opened.tiles.images(index, span.row), span)
        for index, span in zip(indexes, spans, strict=True)
    ]
    documents = []
    for span, token_part in zip(spans[: config.documents_per_source], lengths, strict=False):
        try:
            sample = opened.read(span.source, span.shard, span.row)
            document = _document(sample, token_part, span, opened.tokenizer, album, config, mix.image_size_px)
            documents.append(replace(document, source=mix.sources[span.source].name))
        except DataError as error:
            documents.append(DocumentView(key="", bits=[], note=f"skipped, damaged: {error}"))
    return SequenceView(
        name=name,
        documents=documents,
        strip=[
            (*_strip(token_part, span, mix.sequence_length), mix.sources[span.source].name)
            for span, token_part in zip(spans, lengths, strict=True)
        ],
        tokens=sum(span.stop - span.start for span in spans),
        length=mix.sequence_length,
        num_images=sum(span.num_images for span in spans),
        num_documents=len(spans),
        mixture=mixture,
    )


def single_documents(store: Store, raw: RawData, name: str, album: Album, config: ReportConfig) -> SequenceView:
    """Show the first complete documents of a source."""
    tokenizer = TextTokenizer.from_store(store, raw.tokenizer)
    documents = []
    for reader in open_shards(store, raw.sources[name].shards[:1]):
        for row in range(min(len(reader.index), config.documents_per_source)):
            parts = reader.index.parts(row)
            token_part = _token_parts(parts, [(1, 1)] * len(parts), None)
            documents.append(_document(reader.read(row), token_part, None, tokenizer, album, config, None))
        reader.close()
    return SequenceView(name=name, documents=documents, num_documents=raw.sources[name].num_samples)


@dataclass(frozen=True, kw_only=True)
class _TokenPart:
    """The section of a document's part that is in the sequence."""

    part: int
    is_image: bool
    start: int
    """First token within the part."""
    stop: int
    whole: bool


def _token_parts(parts: Sequence[int], images: Sequence[tuple[int, int]], span: SampleSpan | None) -> list[_TokenPart]:
    """List the parts of a document covered by a span.

    Args:
        parts: tokens of each text part, -1 for an image.
        images: tokens and tiles of each image.
        span: the span; None = the whole document.
    """
    covered, position = [], 0
    for number, (count, (length, _)) in enumerate(zip(parts, part_lengths(parts, images), strict=True)):
        start = max(0, span.start - position) if span else 0
        stop = min(length, span.stop - position) if span else length
        if start < stop:
            whole = (start, stop) == (0, length)
            covered.append(_TokenPart(part=number, is_image=count == IMAGE_PLACE, start=start, stop=stop, whole=whole))
        position += length
    return covered


def _strip(token_parts: list[_TokenPart], span: SampleSpan, length: int) -> tuple[float, list[StripPart]]:
    """Compute a document's share of its sequence, and the shares of text and images within it."""
    total = span.stop - span.start
    strip: list[StripPart] = []
    for is_image, group in groupby(token_parts, key=lambda token_part: token_part.is_image):
        tokens = sum(token_part.stop - token_part.start for token_part in group)
        strip.append(StripPart(kind="pic" if is_image else "text", percent=round(100 * tokens / total, 2)))
    rest = 100 - sum(item.percent for item in strip)  # the end-of-document token is not in the document's parts
    return round(100 * total / length, 3), [*strip, StripPart(kind="text", percent=round(max(0.0, rest), 2))]


def _document(
    sample: Sample,
    token_parts: list[_TokenPart],
    span: SampleSpan | None,
    tokenizer: TextTokenizer,
    album: Album,
    config: ReportConfig,
    side_px: int | None,
) -> DocumentView:
    bits: list[Bit] = []
    num_images = 0
    for token_part in token_parts:
        part = sample.parts[token_part.part]
        if isinstance(part, ImagePart):
            num_images += 1
            if num_images <= config.images_per_document:
                bits.append(Bit(picture=album.picture(sample.images[part.image], side_px)))
            continue
        text = (
            part.text
            if token_part.whole
            else tokenizer.decode(tokenizer.encode([part.text])[0][token_part.start : token_part.stop])
        )
        limit = config.characters_per_part
        tokens = tokenizer.pieces(text[:limit]) if config.show_tokens else []
        bits.append(Bit(text=text[:limit], loss=part.loss, tokens=tokens, more=max(0, len(text) - limit)))
    last = token_parts[-1] if token_parts else None
    ended = last is None or (last.part == len(sample.parts) - 1 and last.whole)
    return DocumentView(
        key=sample.key,
        bits=bits,
        more_images=max(0, num_images - config.images_per_document),
        begins=span is None or span.start == 0,
        ends=ended,
        tokens=span.stop - span.start if span else 0,
    )
