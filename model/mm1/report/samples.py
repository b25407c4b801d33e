"""Packed sequences as the model gets them: documents side by side, text and images in place, and what counts in the loss.

Of each source one sequence is shown, the first that the mixture's plan makes of it; it is read through the data room's own plan
and shards, so the borders between documents are those that training sees. Data that no mixture was made of are shown document
by document.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby

from mm1.data.load.open_mix import OpenMix, open_mix, open_shards
from mm1.data.load.sequences import Piece
from mm1.data.sample import IMAGE_PLACE, ImagePart, Sample
from mm1.data.tokenizer import TextTokenizer
from mm1.errors import DataError, Mm1Error
from mm1.manifests import DataMix, RawData
from mm1.report.album import Album, Picture
from mm1.report.collect import RunStory
from mm1.report.config import ReportConfig
from mm1.store.base import Store

log = logging.getLogger(__name__)

SEARCHED_SEQUENCES = 1_000
"""A mixture's first sequences, among which one of each source is looked for."""


@dataclass(frozen=True, kw_only=True)
class Bit:
    """A stretch of text, or an image."""

    text: str = ""
    loss: bool = True
    """Whether the model is trained to say it."""
    tokens: list[str] = field(default_factory=list)
    """The text token by token, where that is wanted."""
    picture: Picture | None = None
    more: int = 0
    """Characters that the page leaves out."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A document, or the stretch of one that went into a sequence."""

    key: str
    bits: list[Bit]
    more_images: int = 0
    """Images that the page leaves out."""
    begins: bool = True
    """False: its beginning is in an earlier sequence."""
    ends: bool = True
    """False: its end is in a later sequence."""
    tokens: int = 0
    source: str = ""
    """Its source, in a sequence of several."""
    note: str = ""
    """Why it cannot be shown."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A piece of the strip that shows how full a sequence is."""

    kind: str
    """text or pic."""
    percent: float
    """Width within its document."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the page shows of one source."""

    name: str
    documents: list[Document] = field(default_factory=list)
    strip: list[tuple[float, list[Span], str]] = field(default_factory=list)
    """Documents of the sequence: percent of the sequence's length, what is in them, and their source."""
    tokens: int = 0
    length: int = 0
    """Tokens that the sequence could hold; 0 where no sequence is shown."""
    num_images: int = 0
    num_documents: int = 0
    mixture: str = ""
    note: str = ""


def source_samples(story: RunStory, album: Album, config: ReportConfig) -> list[Shown]:
    """One sequence, or a few documents, of each source of the run."""
    shown: dict[str, Shown] = {}
    for found, mix in sorted(story.of(DataMix), key=lambda pair: -len(pair[1].sources)):
        raw = story.get(mix.raw, RawData)
        for number, source in enumerate(mix.sources):
            if raw and source.weight and source.name not in shown:
                store = story.found[mix.raw].store
                make = partial(_sequence, store, mix, raw, number, album, config, found.producer or "a mixture")
                shown[source.name] = _guarded(source.name, make)
    for found, raw in story.of(RawData):
        for name in raw.sources:
            if name not in shown:
                shown[name] = _guarded(name, partial(loose_documents, found.store, raw, name, album, config))
    return list(shown.values())


def _guarded(name: str, make: Callable[[], Shown]) -> Shown:
    try:
        return make()
    except (Mm1Error, OSError) as error:
        log.warning("samples of %s left out of the report: %s", name, error)
        return Shown(name=name, note=f"The samples could not be read: {error}")


def _sequence(store: Store, mix: DataMix, raw: RawData, number: int, album: Album, config: ReportConfig, mixture: str) -> Shown:
    """The first sequence that a mixture makes of a source."""
    opened = open_mix(store, mix, raw)
    planned = (opened.plan[place] for place in range(SEARCHED_SEQUENCES))
    pieces = next((found.pieces for found in planned if found.source == number), [])
    return sequence_of(opened, pieces, mix.sources[number].name, album, config, mixture)


def sequence_of(opened: OpenMix, pieces: Sequence[Piece], name: str, album: Album, config: ReportConfig, mixture: str) -> Shown:
    """A packed sequence as the model gets it; a damaged document is said to be one."""
    mix = opened.mix
    lengths = [
        _stretches(opened.readers[piece.source][piece.shard].index.parts(piece.row), mix.image_tokens, piece)
        for piece in pieces
    ]
    documents = []
    for piece, stretch in zip(pieces[: config.documents_per_source], lengths, strict=False):
        try:
            sample = opened.read(piece.source, piece.shard, piece.row)
            document = _document(sample, stretch, piece, opened.tokenizer, album, config)
            documents.append(replace(document, source=mix.sources[piece.source].name))
        except DataError as error:
            documents.append(Document(key="", bits=[], note=f"left out, damaged: {error}"))
    return Shown(
        name=name,
        documents=documents,
        strip=[
            (*_strip(stretch, piece, mix.sequence_length), mix.sources[piece.source].name)
            for piece, stretch in zip(pieces, lengths, strict=True)
        ],
        tokens=sum(piece.stop - piece.start for piece in pieces),
        length=mix.sequence_length,
        num_images=sum(piece.num_images for piece in pieces),
        num_documents=len(pieces),
        mixture=mixture,
    )


def loose_documents(store: Store, raw: RawData, name: str, album: Album, config: ReportConfig) -> Shown:
    """The first documents of a source, whole."""
    tokenizer = TextTokenizer.from_store(store, raw.tokenizer)
    documents = []
    for reader in open_shards(store, raw.sources[name].shards[:1]):
        for row in range(min(len(reader.index), config.documents_per_source)):
            stretch = _stretches(reader.index.parts(row), 1, None)
            documents.append(_document(reader.read(row), stretch, None, tokenizer, album, config))
        reader.close()
    return Shown(name=name, documents=documents, num_documents=raw.sources[name].num_samples)


@dataclass(frozen=True, kw_only=True)
class _Stretch:
    """A part of a document, as far as it lies in the sequence."""

    part: int
    is_image: bool
    start: int
    """First token within the part."""
    stop: int
    whole: bool


def _stretches(parts: Sequence[int], image_tokens: int, piece: Piece | None) -> list[_Stretch]:
    """The parts of a document that a piece covers. ``parts``: tokens of each text part, -1 for an image."""
    found, position = [], 0
    for number, count in enumerate(parts):
        length = image_tokens if count == IMAGE_PLACE else count
        start = max(0, piece.start - position) if piece else 0
        stop = min(length, piece.stop - position) if piece else length
        if start < stop:
            whole = (start, stop) == (0, length)
            found.append(_Stretch(part=number, is_image=count == IMAGE_PLACE, start=start, stop=stop, whole=whole))
        position += length
    return found


def _strip(stretches: list[_Stretch], piece: Piece, length: int) -> tuple[float, list[Span]]:
    """A document's share of its sequence, and within it the shares of text and images."""
    total = piece.stop - piece.start
    spans: list[Span] = []
    for is_image, group in groupby(stretches, key=lambda stretch: stretch.is_image):
        tokens = sum(stretch.stop - stretch.start for stretch in group)
        spans.append(Span(kind="pic" if is_image else "text", percent=round(100 * tokens / total, 2)))
    rest = 100 - sum(span.percent for span in spans)  # the end-of-document token is no part of the document's parts
    return round(100 * total / length, 3), [*spans, Span(kind="text", percent=round(max(0.0, rest), 2))]


def _document(
    sample: Sample,
    stretches: list[_Stretch],
    piece: Piece | None,
    tokenizer: TextTokenizer,
    album: Album,
    config: ReportConfig,
) -> Document:
    bits: list[Bit] = []
    num_images = 0
    for stretch in stretches:
        part = sample.parts[stretch.part]
        if isinstance(part, ImagePart):
            num_images += 1
            if num_images <= config.images_per_document:
                bits.append(Bit(picture=album.picture(sample.images[part.image])))
            continue
        text = part.text if stretch.whole else tokenizer.decode(tokenizer.encode([part.text])[0][stretch.start : stretch.stop])
        limit = config.characters_per_part
        tokens = tokenizer.pieces(text[:limit]) if config.show_tokens else []
        bits.append(Bit(text=text[:limit], loss=part.loss, tokens=tokens, more=max(0, len(text) - limit)))
    last = stretches[-1] if stretches else None
    ended = last is None or (last.part == len(sample.parts) - 1 and last.whole)
    return Document(
        key=sample.key,
        bits=bits,
        more_images=max(0, num_images - config.images_per_document),
        begins=piece is None or piece.start == 0,
        ends=ended,
        tokens=piece.stop - piece.start if piece else 0,
    )
