"""What a mixture looks like, from its plan: fill, images, documents, repetitions; works on lengths, reads no samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count, takewhile

from mm1.data.load.open_mix import source_stream
from mm1.data.load.sequences import MixturePlan, SampleSpan, SourceStream
from mm1.data.reader import ShardIndex
from mm1.manifests import DataMix

MEASURED_SEQUENCES = 2_000
"""Sequences that figures are measured over."""


@dataclass
class Tally:
    """Sums over some sequences."""

    sequences: int = 0
    tokens: int = 0
    images: int = 0
    documents: int = 0
    """Documents and spans of documents."""
    begun: int = 0
    """Documents whose beginning is in one of the sequences."""
    cut: int = 0
    """Pieces of documents that did not fit into one sequence."""

    def figures(self, sequence_length: int) -> dict[str, float]:
        """Fill (tokens in place of padding), and tokens, images, documents per sequence."""
        number = max(1, self.sequences)
        return {
            "fill": round(self.tokens / number / sequence_length, 6),
            "tokens_per_sequence": round(self.tokens / number, 3),
            "images_per_sequence": round(self.images / number, 3),
            "documents_per_sequence": round(self.documents / number, 3),
            "cut_share": round(self.cut / max(1, self.documents), 6),
        }


@dataclass
class MixStatistics:
    """Measured over the first sequences of a mixture.

    Attributes:
        sequence_length: tokens of a sequence.
        total: over all sources.
        by_source: per source, by name; a sequence counts for a source in which it holds documents of it.
    """

    sequence_length: int
    total: Tally = field(default_factory=Tally)
    by_source: dict[str, Tally] = field(default_factory=dict)

    def figures(self) -> dict[str, float]:
        """Figures of all and per source; of a source also its share of all tokens, and documents begun per sequence of all."""
        found = {"sequences": float(self.total.sequences)} | self.total.figures(self.sequence_length)
        for name, tally in self.by_source.items():
            found |= {f"{name}/{figure}": value for figure, value in tally.figures(self.sequence_length).items()}
            found[f"{name}/token_share"] = round(tally.tokens / max(1, self.total.tokens), 6)
            found[f"{name}/documents_begun"] = round(tally.begun / max(1, self.total.sequences), 6)
        return found


def measure(plan: MixturePlan, mix: DataMix, num_sequences: int = MEASURED_SEQUENCES) -> MixStatistics:
    """Go through the first sequences of a plan."""
    names = [source.name for source in mix.sources]
    found = MixStatistics(mix.sequence_length, by_source={source.name: Tally() for source in mix.sources if source.weight})
    for number in range(num_sequences):
        spans = plan[number].spans
        found.total.sequences += 1
        for source in sorted({span.source for span in spans}):
            found.by_source[names[source]].sequences += 1
        for span in spans:
            for tally in (found.total, found.by_source[names[span.source]]):
                tally.tokens += span.stop - span.start
                tally.images += span.num_images
                tally.documents += 1
                tally.begun += span.start == 0
                tally.cut += plan.is_cut(span)
    return found


def num_long_documents(mix: DataMix, indexes: Mapping[int, Sequence[ShardIndex]]) -> dict[str, float]:
    """``<source>/long_documents``: documents that no sequence holds as a whole."""
    streams = {number: source_stream(mix, number, found) for number, found in indexes.items()}
    return {f"{mix.sources[number].name}/long_documents": float(stream.num_long) for number, stream in streams.items()}


def shares_of_sequences(mix: DataMix, indexes: Mapping[int, Sequence[ShardIndex]]) -> dict[int, float]:
    """Shares of sequences that make the weights shares of tokens.

    A source whose sequences (or documents, where several sources share sequences) hold more tokens needs fewer of them; how
    many they hold is measured over the first sequences of an epoch of each.

    Returns:
        Source -> its share.
    """
    tokens = {}
    for number, found in indexes.items():
        spans = [*_first_sequences(source_stream(mix, number, found))]
        total = sum(span.stop - span.start for sequence in spans for span in sequence)
        begun = sum(span.start == 0 for sequence in spans for span in sequence)
        tokens[number] = total / max(1, len(spans) if mix.one_source else begun)
    shares = {number: mix.sources[number].weight / tokens[number] for number in indexes}
    return {number: round(share / sum(shares.values()), 9) for number, share in shares.items()}


def _first_sequences(stream: SourceStream) -> list[list[SampleSpan]]:
    """Sequences of the first epoch, some thousands at most."""
    numbers = takewhile(lambda number: number < MEASURED_SEQUENCES and stream.cursor(number).epoch == 0, count())
    return [stream.sequence(number) for number in numbers]


def epochs_of(mix: DataMix, num_sequences: int) -> dict[str, float]:
    """How often each source has been gone through after some sequences, from what was measured of the packing."""
    found = {}
    for source in mix.sources:
        if source.weight:
            left = source.num_samples
            if mix.long_documents == "drop":
                left -= int(mix.packing.get(f"{source.name}/long_documents", 0))
            found[source.name] = num_sequences * mix.packing.get(f"{source.name}/documents_begun", 0.0) / max(1, left)
    return found


def sequences_until(mix: DataMix, max_epochs: float) -> int:
    """Sequences after which the first source has been gone through ``max_epochs`` times."""
    return math.floor(max_epochs / max(*epochs_of(mix, 1).values(), 1e-12))


def check_epochs(mix: DataMix, num_sequences: int) -> str:
    """What is wrong with taking so many sequences of a mixture; empty when nothing is."""
    if mix.max_sequences is None or num_sequences <= mix.max_sequences:
        return ""
    name, epochs = max(epochs_of(mix, num_sequences).items(), key=lambda item: item[1])
    return (
        f"{num_sequences:,} sequences repeat the source {name!r} {epochs:.1f} times; the mixture allows {mix.max_epochs:g} "
        f"(max_epochs), which are {mix.max_sequences:,} sequences: train fewer steps, give {name} a smaller weight, more data, "
        "or make the mixture with a larger max_epochs"
    )
